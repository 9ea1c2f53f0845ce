"""The command `mtlora data`: make a dataset, and look at it before training on it."""

from pathlib import Path
from typing import Annotated

import typer

from mtlora.cli import data_mend
from mtlora.cli import options as o
from mtlora.cli.data_import import import_command
from mtlora.cli.say import say

data = typer.Typer(help="Make a dataset of an export, look at it before training on it.", no_args_is_help=True)
data.command(name="import")(import_command)
data.command()(data_mend.split)
data.command()(data_mend.upright)


@data.command()
def check(
    root: Annotated[Path, typer.Argument(help="Dataset folder, in any layout of docs/dataset-format.md.")],
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be given several times.")] = None,
    semseg_classes: Annotated[
        str, typer.Option(help="Classes of your own: a comma list, or how many; default: classes.txt, or the layout's.")
    ] = "",
    all_files: Annotated[bool, typer.Option("--all-files", help="Name every file, not three of each cause.")] = False,
) -> None:
    """Read every photo and label, count classes, list what is wrong; exit status 1 if there is any problem."""
    from mtlora.cli.data_report import report_lines
    from mtlora.cli.progress import bar
    from mtlora.data.check import check_dataset
    from mtlora.data.own_classes import OwnClasses

    with bar("check") as progress:
        report = check_dataset(root, split or (), own=OwnClasses.parse(semseg_classes), progress=progress)
    say(*report_lines(report, all_files=all_files))
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
