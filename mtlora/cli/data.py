"""The command `mtlora data`: make a dataset, and look at it before training on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlora.cli import options as o
from mtlora.cli.data_import import import_command
from mtlora.cli.say import say

if TYPE_CHECKING:
    from mtlora.data.check import CheckReport

data = typer.Typer(help="Make a dataset of an export, look at it before training on it.", no_args_is_help=True)
data.command(name="import")(import_command)


@data.command()
def check(
    root: Annotated[Path, typer.Argument(help="Dataset folder, in any layout of docs/dataset-format.md.")],
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be given several times.")] = None,
    semseg_classes: Annotated[int, typer.Option(help="Number of classes of your own; 0: the layout's.")] = 0,
) -> None:
    """Read every photo and label and list every problem; exit status 1 if there is any."""
    from mtlora.cli.progress import bar
    from mtlora.data.check import check_dataset
    from mtlora.vocabulary.tasks import Task

    own = {Task.SEMSEG: semseg_classes} if semseg_classes else None
    with bar("check") as progress:
        report = check_dataset(root, split or (), class_counts=own, progress=progress)
    say(*_lines(report))
    if report.problems:
        raise typer.Exit(1)


@data.command()
def soft_labels(
    root: Annotated[Path, typer.Argument(help="Dataset folder.")],
    adapter: Annotated[str, typer.Option(help="Teacher: a bundled adapter set's name, or a .safetensors file.")],
    out: Annotated[Path, typer.Option(help="Folder for the logits; for `mtlora train --soft-labels`.")],
    backbone: o.BackboneOption = None,
    split: o.SplitOption = "train",
    device: o.DeviceOption = "auto",
) -> None:
    """Store a teacher's logits of every photo of a split, to learn from without running it again."""
    from mtlora.cli.progress import bar
    from mtlora.data.layout import open_dataset
    from mtlora.prediction.adapted import build_adapted
    from mtlora.training.adapters.soft import store_logits
    from mtlora.weights.adapter_file import load_adapter
    from mtlora.weights.backbone import load_backbone
    from mtlora.weights.bundled import find_adapter, find_backbone

    base = load_backbone(find_backbone(backbone)).to(o.device_name(device))
    model = build_adapted(base, load_adapter(find_adapter(adapter)))
    dataset = open_dataset(root, split)
    with bar("soft labels") as progress:
        store_logits(model, dataset, out, progress)
    say(f"{out}: logits of {', '.join(model.spec.task_names)} for {len(dataset)} photos")


def _lines(report: "CheckReport") -> list[str]:
    lines = [f"layout: {report.layout}"]
    for split, counts in report.counts.items():
        labels = ", ".join(f"{task.value} {count}" for task, count in counts.items() if task is not None)
        lines.append(f"{split}: {counts[None]} photos; labels: {labels or 'none'}")
    if not report.problems:
        return [*lines, "no problems"]
    return [*lines, f"{len(report.problems)} problems:", *(f"  - {problem}" for problem in report.problems)]
