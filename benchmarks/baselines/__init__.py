"""Other ways of computing the same, and of serving the same, to measure against."""

from collections.abc import Mapping

from torch import Tensor

from benchmarks.baselines.plain_mtlora import PlainMTLoRA
from mtlora.vocabulary.spec import AdapterSpec, SharedMode


def plain_mtlora(spec: AdapterSpec, state: Mapping[str, Tensor]) -> PlainMTLoRA:
    """The plain implementation with a model's tensors, named as in `MTLoRAModel.state_dict()`."""
    return PlainMTLoRA(
        state={name: tensor.detach() for name, tensor in state.items()},
        tasks=[task.value for task in spec.task_names],
        depths=spec.backbone.depths,
        heads=spec.backbone.num_heads,
        window=spec.backbone.window_size,
        mode=spec.mode.value,
        scaling={"shared": spec.scaling} | {t.task.value: t.scaling for t in spec.tasks},
        task_linears=_task_linears(spec),
        decoder={t.task.value: t.decoder.value for t in spec.tasks},
    )


def _task_linears(spec: AdapterSpec) -> frozenset[str]:
    """The rule once more, on purpose not `adapted_linears`: this is what tests check the product against."""
    if spec.mode is SharedMode.LORA_ONLY:
        return frozenset()
    switches = {"attn.proj": spec.adapt_proj, "mlp.fc1": spec.adapt_fc1, "mlp.fc2": spec.adapt_fc2}
    return frozenset(
        f"backbone.layers.{stage}.blocks.{block}.{linear}"
        for stage, depth in enumerate(spec.backbone.depths)
        for block in (range(depth) if spec.intermediate_specialization else [depth - 1])
        for linear, enabled in switches.items()
        if enabled and spec.ranks[stage] > 0
    )
