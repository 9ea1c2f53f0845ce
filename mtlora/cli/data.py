"""`mtlora data`: look at a dataset before training on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mtlora.data.check import CheckReport

data = typer.Typer(help="Look at a dataset before training on it.", no_args_is_help=True)


@data.command()
def check(
    root: Annotated[Path, typer.Argument(help="Dataset folder, in any layout of docs/dataset-format.md.")],
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be given several times.")] = None,
    semseg_classes: Annotated[int, typer.Option(help="Number of classes of your own; 0: the layout's.")] = 0,
) -> None:
    """Read every photo and label and list every problem; exit status 1 if there is any."""
    from mtlora.cli.progress import bar
    from mtlora.data.check import check_dataset
    from mtlora.tasks import Task

    own = {Task.SEMSEG: semseg_classes} if semseg_classes else None
    with bar("check") as progress:
        report = check_dataset(root, split or (), class_counts=own, progress=progress)
    typer.echo("\n".join(_lines(report)))
    if report.problems:
        raise typer.Exit(1)


def _lines(report: "CheckReport") -> list[str]:
    lines = [f"layout: {report.layout}"]
    for split, counts in report.counts.items():
        labels = ", ".join(f"{task.value} {count}" for task, count in counts.items() if task is not None)
        lines.append(f"{split}: {counts[None]} photos; labels: {labels or 'none'}")
    if not report.problems:
        return [*lines, "no problems"]
    return [*lines, f"{len(report.problems)} problems:", *(f"  - {problem}" for problem in report.problems)]
