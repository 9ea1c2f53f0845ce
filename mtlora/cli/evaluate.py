"""The command `mtlora evaluate`; see docs/training.md."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from mtlora.cli import options as o
from mtlora.cli.option_groups import with_options
from mtlora.cli.say import say, say_json
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.options import Precision

if TYPE_CHECKING:
    from mtlora.evaluation.evaluate import TaskReport
    from mtlora.prediction.adapted import Adapted
    from mtlora.prediction.gated import Gated
    from mtlora.vocabulary.tasks import Task
    from mtlora.weights.adapter_file import AdapterSet


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What is scored, and how it is computed."""

    data: o.DataOption
    adapter: Annotated[str, typer.Option(help="Bundled adapter set's name, or a .safetensors file.")]
    backbone: o.BackboneOption = None
    split: o.SplitOption = "val"
    tasks: Annotated[str, typer.Option(help="Comma list of tasks; default: all of the set with labels.")] = ""
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    device: o.DeviceOption = "auto"
    precision: Annotated[Precision, typer.Option(help="float32, or int8 on a CPU: what its speed costs.")] = (
        Precision.FLOAT32
    )
    compute: o.ComputeOption = 0.0
    spending: o.SpendingOption = "each"
    tiles: o.TilesOption = ""


@with_options
def evaluate(options: EvaluateOptions) -> None:
    """Score an adapter set on a split: mIoU, saliency IoU, angles, in all and by the labels' origin."""
    from mtlora.cli.progress import bar
    from mtlora.data.agreement import check_agreement
    from mtlora.data.layout import open_dataset
    from mtlora.evaluation.evaluate import evaluate as run
    from mtlora.prediction.gated import Gated
    from mtlora.vocabulary.tasks import parse_tasks
    from mtlora.weights.adapter_file import load_adapter
    from mtlora.weights.bundled import find_adapter

    loaded = load_adapter(find_adapter(options.adapter))
    model = _model(options, loaded)
    wanted = parse_tasks(options.tasks)
    dataset = open_dataset(options.data, options.split, wanted)
    check_agreement(dataset, wanted or model.spec.task_names)
    with bar("evaluate") as progress:
        reports = run(model, dataset, wanted or None, progress, options.tiles or None)
    if options.as_json:
        plain = {task.value: report.to_plain() for task, report in reports.items()}
        share = {"compute": options.compute, "share": round(model.mean_share, 5)} if isinstance(model, Gated) else {}
        tiles = {"tiles": options.tiles} if options.tiles else {}
        say_json({"split": options.split, "adapter": loaded.digest, **share, **tiles, "tasks": plain})
        return
    if isinstance(model, Gated):
        say(f"compute {options.compute:g}: {model.mean_share:.1%} of the blocks' multiply-adds, on average")
    for task, report in reports.items():
        say(*_report_lines(task, report))


def _model(options: EvaluateOptions, adapter: "AdapterSet") -> "Adapted | Gated":
    from mtlora.prediction.adapted import build_adapted
    from mtlora.weights.backbone import load_backbone
    from mtlora.weights.bundled import find_backbone

    frozen = load_backbone(find_backbone(options.backbone)).to(o.device_name(options.device))
    if not options.compute:
        return build_adapted(frozen, adapter, precision=options.precision)
    if options.precision is not Precision.FLOAT32:
        raise TrainingError(f"--compute runs the plain model, which has float32 only, got {options.precision}")
    return o.gated(frozen, adapter, options.compute, options.spending)


def _report_lines(task: "Task", report: "TaskReport") -> list[str]:
    from mtlora.metrics import HEADLINE

    lines = [f"{task.value}: {HEADLINE[task]} {report.scores[HEADLINE[task]]:.4g} ({report.photos} photos)"]
    lines += [f"  warning: {report.remark}"] if report.remark else []
    lines += [f"  {name} {value:.4g}" for name, value in report.scores.items() if name != HEADLINE[task]]
    lines += [
        f"  labels {origin}: {HEADLINE[task]} {part.scores[HEADLINE[task]]:.4g} ({part.photos} photos)"
        for origin, part in report.by_origin.items()
    ]
    return lines
