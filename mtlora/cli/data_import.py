"""The command `mtlora data import`: a labelling tool's export becomes a dataset folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlora.cli.option_groups import with_options
from mtlora.cli.say import say

if TYPE_CHECKING:
    from mtlora.data.importing.importer import ImportReport

_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of `mtlora data import`."""

    format_name: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="auto, coco, labelme, labelstudio, cvat, yolo, voc or masks: docs/importing.md."
        ),
    ]
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of the export, or its one document.")]
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Dataset folder to make.")]
    split: Annotated[
        float | None,
        typer.Option(help="Share of the photos to train on, the rest is val; default: the export's splits, else 0.8."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of the lot that decides which photos are trained on.")] = 0
    task: Annotated[str, typer.Option(help="semseg, human_parts, saliency, or two: semseg,saliency.")] = "semseg"
    classes: Annotated[
        Path | None, typer.Option(help="File with the classes' names in their order, one a line; others: background.")
    ] = None
    photos: Annotated[list[Path] | None, typer.Option(help="One more folder with photos; several times.")] = None
    copy: Annotated[bool, typer.Option("--copy", help="Copy photos; else the folder has links to them.")] = False
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave photos with problems out, do not stop.")] = False
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Leave photos without any shape out; else: background all over.")
    ] = False


@with_options
def import_command(options: Options) -> None:
    """Make a dataset folder of what a labelling tool exports; photos are linked, not copied."""
    from mtlora.cli.progress import bar
    from mtlora.data.importing.importer import ImportOptions, import_export
    from mtlora.vocabulary.tasks import parse_tasks

    wanted = ImportOptions(
        format=options.format_name,
        tasks=parse_tasks(options.task),
        split=options.split,
        seed=options.seed,
        classes=options.classes,
        photos=tuple(options.photos or ()),
        copy=options.copy,
        skip_bad=options.skip_bad,
        skip_empty=options.skip_empty,
    )
    with bar("import") as progress:
        report = import_export(options.source, options.out, wanted, progress)
    say(*_lines(report, options.out))


def _lines(report: "ImportReport", out: Path) -> list[str]:
    counts = ", ".join(f"{split} {len(ids)}" for split, ids in report.splits.items())
    lines = [f"{out}: photos: {counts}", f"read as {report.format}; where shapes overlap: {report.overlap}"]
    names = report.classes or report.shares
    for index, name in enumerate(names):
        share = f"{report.shares.get(name, 0):.2%} of the pixels"
        lines.append(f"  {index} {name}: in {report.photos[name]} photos, {share}" if report.classes else "")
    if "ignore" in report.shares:
        lines.append(f"  255 ignore: {report.shares['ignore']:.2%} of the pixels")
    lines += report.notes
    if report.problems:
        lines.append(f"{len(report.problems)} photos or labels left out:")
        lines += [f"  - {problem}" for problem in report.problems[:_PROBLEMS_SHOWN]]
    return [*(line for line in lines if line), f"next: mtlora data check {out}"]
