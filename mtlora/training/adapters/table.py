"""The table of trained parameters: how many, and where they are."""

from rich.table import Table

from mtlora.model.mtlora import MTLoRAModel
from mtlora.vocabulary.trainable import is_decoder, is_lora, is_policy

GROUPS = ("shared pairs", "task pairs", "decoders", "norms", "position biases", "patches", "policy", "other")
"""Norms to patches and `other`, which only full fine-tuning and BitFit train, are what the paper calls extra."""


def group_of(name: str) -> str:
    """The row of the table that a parameter of an adapted model belongs to."""
    parts = name.split(".")
    if is_policy(name):
        return "policy"
    if is_decoder(name):
        return "decoders"
    if is_lora(name):
        return "task pairs" if "tasks" in parts else "shared pairs"
    if parts[-1] == "relative_position_bias_table":
        return "position biases"
    if parts[1] == "patch_embed" or parts[-2] == "reduction":
        return "patches"
    if parts[-2] in {"norm1", "norm2", "norm"}:
        return "norms"
    return "other"


def group_counts(model: MTLoRAModel) -> dict[str, int]:
    """Trained parameters by group, and `trained`, `lora`, `decoder`, `extra`, `total` as the paper counts them."""
    counts = dict.fromkeys(GROUPS, 0)
    total = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if parameter.requires_grad:
            counts[group_of(name)] += parameter.numel()
    trained, lora = sum(counts.values()), counts["shared pairs"] + counts["task pairs"]
    decoder = counts["decoders"]
    extra = trained - lora - decoder - counts["policy"]
    sums = {"trained": trained, "lora": lora, "decoder": decoder, "extra": extra, "total": total}
    return counts | sums


def parameter_table(model: MTLoRAModel) -> Table:
    """The counts for the terminal."""
    counts = group_counts(model)
    table = Table("trained", "parameters", "share of all")
    table.columns[1].justify = table.columns[2].justify = "right"
    for group in GROUPS:
        if counts[group]:
            table.add_row(group, f"{counts[group]:,}", f"{counts[group] / counts['total']:.2%}")
    table.add_section()
    for name, label in {
        "lora": "LoRA",
        "decoder": "decoders",
        "extra": "extra",
        "trained": "all that is trained",
    }.items():
        table.add_row(label, f"{counts[name]:,}", f"{counts[name] / counts['total']:.2%}")
    table.add_row("the whole model", f"{counts['total']:,}", "")
    return table
