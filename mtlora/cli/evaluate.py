"""The command `mtlora evaluate`; see docs/training.md."""

from typing import TYPE_CHECKING, Annotated

import typer

from mtlora.cli import options as o
from mtlora.cli.say import say, say_json
from mtlora.vocabulary.options import Precision

if TYPE_CHECKING:
    from mtlora.evaluation.evaluate import TaskReport
    from mtlora.vocabulary.tasks import Task


def evaluate(
    data: o.DataOption,
    adapter: Annotated[str, typer.Option(help="Bundled adapter set's name, or a .safetensors file.")],
    backbone: o.BackboneOption = None,
    split: o.SplitOption = "val",
    tasks: Annotated[str, typer.Option(help="Comma list of tasks; default: all of the set with labels.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: o.DeviceOption = "auto",
    precision: Annotated[Precision, typer.Option(help="float32, or int8 on a CPU: what its speed costs.")] = (
        Precision.FLOAT32
    ),
) -> None:
    """Score an adapter set on a split: mIoU, saliency IoU, angles, in all and by the labels' origin."""
    from mtlora.cli.progress import bar
    from mtlora.data.layout import open_dataset
    from mtlora.evaluation.evaluate import evaluate as run
    from mtlora.prediction.adapted import build_adapted
    from mtlora.vocabulary.tasks import parse_tasks
    from mtlora.weights.adapter_file import load_adapter
    from mtlora.weights.backbone import load_backbone
    from mtlora.weights.bundled import find_adapter, find_backbone

    loaded = load_adapter(find_adapter(adapter))
    frozen = load_backbone(find_backbone(backbone)).to(o.device_name(device))
    model = build_adapted(frozen, loaded, precision=precision)
    wanted = parse_tasks(tasks)
    dataset = open_dataset(data, split, wanted)
    with bar("evaluate") as progress:
        reports = run(model, dataset, wanted or None, progress)
    if as_json:
        plain = {task.value: report.to_plain() for task, report in reports.items()}
        say_json({"split": split, "adapter": loaded.digest, "tasks": plain})
        return
    for task, report in reports.items():
        say(*_report_lines(task, report))


def _report_lines(task: "Task", report: "TaskReport") -> list[str]:
    from mtlora.metrics import HEADLINE

    lines = [f"{task.value}: {HEADLINE[task]} {report.scores[HEADLINE[task]]:.4g} ({report.photos} photos)"]
    lines += [f"  {name} {value:.4g}" for name, value in report.scores.items() if name != HEADLINE[task]]
    lines += [
        f"  labels {origin}: {HEADLINE[task]} {part.scores[HEADLINE[task]]:.4g} ({part.photos} photos)"
        for origin, part in report.by_origin.items()
    ]
    return lines
