"""Options that several training commands share, and what they mean as values."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.cli.hub import local_path
from mtlora.cli.option_groups import Needs, Unless
from mtlora.vocabulary.errors import TrainingError

if TYPE_CHECKING:
    from mtlora.data.records import PhotoDataset
    from mtlora.prediction.gated import Gated
    from mtlora.vocabulary.spec import AdapterSpec
    from mtlora.vocabulary.tasks import Task
    from mtlora.weights.adapter_file import AdapterSet
    from mtlora.weights.backbone import Backbone

PUBLISHED_WARMUP_FROM = 1e-3
"""Where warm-up begins, as a share of the peak."""

DataOption = Annotated[Path, typer.Option(help="Dataset folder; docs/dataset-format.md has the layouts.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the run: checkpoint, metrics.csv, run.json, result.")]
BackboneOption = Annotated[
    Path | None,
    typer.Option(
        parser=local_path, metavar="FILE", help="Backbone file, or hf://ORG/REPO/FILE; default: the bundled one."
    ),
]
TasksOption = Annotated[str, typer.Option(help="Comma list of tasks.")]
SplitOption = Annotated[str, typer.Option(help="Split: the name of a list of photos.")]
CacheOption = Annotated[
    Path, typer.Option(help="Folder for decoded photos and teacher features; reused by later runs.")
]
StepsOption = Annotated[int, typer.Option(help="Optimisation steps; 0: as many as --epochs say.")]
EpochsOption = Annotated[float, typer.Option(help="Passes over the photos, where --steps is 0."), Unless("steps")]
BatchOption = Annotated[int, typer.Option(help="Photos a step, over all processes and accumulation steps.")]
AccumulateOption = Annotated[int, typer.Option(help="Forward and backward passes a step, for batches that do not fit.")]
LrOption = Annotated[float, typer.Option(help="Peak learning rate; 0: the published 5e-4 * batch / 512.")]
WarmupOption = Annotated[int, typer.Option(help="Steps of linear warm-up; -1: the published share, 1/15 of all.")]
HoldOption = Annotated[float, typer.Option(help="Share of the steps at the peak before the cosine decay, 0..1.")]
FinalLrOption = Annotated[float, typer.Option(help="Where the decay ends, as a share of --lr.")]
EmaOption = Annotated[float, typer.Option(help="Moving average of the weights, e.g. 0.998; 0: none.")]
ProcessesOption = Annotated[int, typer.Option(help="Training processes; on a CPU: one per core is fastest.")]
ProcessesByRecipe = Annotated[
    int | None, typer.Option(help="Training processes; default: one per core on a CPU, up to four.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
PrecisionOption = Annotated[str, typer.Option(help="auto (a GPU: bfloat16 or float16), float32, bfloat16 or float16.")]
DropPathOption = Annotated[float, typer.Option(help="Stochastic depth of the last block.")]
WeightsOption = Annotated[str, typer.Option(help="Loss weights, e.g. semseg=1,normals=3; default: see the docs.")]
ClassBalanceOption = Annotated[
    float, typer.Option(help="Exponent of inverse-frequency class weights; above 0 rare photos are drawn more often.")
]
ChannelsOption = Annotated[str, typer.Option(help="Decoder channels at the four scales.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint, if it has one.")]
SaveEveryOption = Annotated[int, typer.Option(help="Steps between checkpoints.")]
LogEveryOption = Annotated[int, typer.Option(help="Steps between rows of metrics.csv.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
WeightDecayOption = Annotated[float, typer.Option(help="Weight decay of matrices.")]
ComputeOption = Annotated[
    float, typer.Option(help="Share of the encoder that the set's policy may compute, as 0.6; runs the plain model.")
]
SpendingOption = Annotated[
    str,
    typer.Option(help="With --compute: each (no photo gets more) or mean (of all photos; needs a calibration)."),
    Needs(("compute",)),
]
TilesOption = Annotated[
    str,
    typer.Option(
        help="Cut photos in overlapping tiles: auto, or rows x columns such as 2x3. Default: squeezed as a whole."
    ),
]
TensorboardOption = Annotated[bool, typer.Option(help="Write event files where TensorBoard is installed.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where a run computes and what it writes on its way."""

    processes: ProcessesByRecipe = None
    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    seed: SeedOption = 0
    cache: CacheOption = Path("runs/cache")
    save_every: SaveEveryOption = 100
    log_every: LogEveryOption = 10
    tensorboard: TensorboardOption = True


def four(text: str, what: str) -> tuple[int, int, int, int]:
    """Four whole numbers with commas between them."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        raise TrainingError(f"{what}: four whole numbers with commas are needed, got {text!r}")
    a, b, c, d = (int(part) for part in parts)
    return a, b, c, d


def two(text: str, what: str) -> tuple[int, int]:
    """Two whole numbers with a comma between them."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise TrainingError(f"{what}: two whole numbers with a comma are needed, got {text!r}")
    return int(parts[0]), int(parts[1])


def zoom_range(text: str) -> tuple[float, float]:
    """Two numbers with a comma between them."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise TrainingError(f"--zoom needs two numbers such as 0.75,1.25, got {text!r}") from None
    return low, high


def task_weights(text: str) -> "dict[Task, float]":
    """`semseg=1,normals=3` as a mapping."""
    from mtlora.vocabulary.tasks import parse_task

    weights = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        try:
            weights[parse_task(name)] = float(value)
        except ValueError:
            raise TrainingError(f"loss weights look like semseg=1,normals=3, got {part!r}") from None
    return weights


def member(kind: Any, value: str, what: str) -> Any:
    """The member of an enumeration; the error lists them all."""
    names: Iterable[str] = [each.value for each in kind]
    if value not in names:
        raise TrainingError(f"{what} must be one of {', '.join(names)}, got {value!r}")
    return kind(value)


def device_name(name: str) -> str:
    """cpu or cuda; auto takes a GPU where there is one."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise TrainingError(f"device must be cpu, cuda or auto, got {name!r}")
    return name


def gated(backbone: "Backbone", adapter: "AdapterSet", compute: float, spending: str) -> "Gated":
    """A set within a budget, as `--compute` and `--spending` say."""
    from mtlora.prediction.gated import Spending, build_gated

    return build_gated(backbone, adapter, compute, member(Spending, spending, "--spending"))


def step_count(dataset: "PhotoDataset", steps: int, epochs: float, batch: int) -> int:
    """`steps`, or as many as so many epochs have."""
    return steps or max(1, round(len(dataset) * epochs / batch))


def task_specs(
    tasks: str, semseg_classes: str, ranks: str, scaling: float, decoder: str, dataset: "PhotoDataset"
) -> tuple[Any, ...]:
    """Descriptions of the tasks; classes are those named, or the dataset's."""
    from mtlora.data.own_classes import OwnClasses, own_names
    from mtlora.vocabulary.spec import DecoderKind, TaskSpec, familiar_classes, palette_classes
    from mtlora.vocabulary.tasks import Task, parse_tasks

    wanted = parse_tasks(tasks)
    if not wanted:
        raise TrainingError(f"--tasks names no task: {tasks!r}")
    own = OwnClasses.parse(semseg_classes)
    classes = {task: palette_classes(known) for task, known in dataset.classes.items()}
    if own is not None:
        classes[Task.SEMSEG] = familiar_classes(own_names(dataset, own))
    specs = [
        TaskSpec.make(
            task,
            classes=classes.get(task),
            ranks=four(ranks, "task ranks"),
            scaling=(scaling,) * 4,
            decoder=member(DecoderKind, decoder, "decoder"),
        )
        for task in wanted
    ]
    return tuple(s.model_copy(update={"axes": dataset.axes}) if s.task is Task.NORMALS else s for s in specs)


def with_linear_ranks(spec: "AdapterSpec", file: Path | None, single: list[str]) -> "AdapterSpec":
    """The spec with ranks of single linears.

    file:   JSON `{"shared": {LINEAR: N}, "tasks": {TASK: {LINEAR: N}}}`, either may be missing
    single: `LINEAR=N` for a shared pair, `TASK:LINEAR=N` for a task's; these win over the file
    """
    from mtlora.vocabulary.spec import AdapterSpec, TaskSpec

    if file is None and not single:
        return spec
    shared, tasks = _ranks_of_file(file)
    for text in single:
        name, _, rank = text.rpartition("=")
        owner, _, linear = name.rpartition(":")
        if not linear or not rank.isdigit():
            raise TrainingError(f"--rank-of: LINEAR=N or TASK:LINEAR=N is needed, got {text!r}")
        (tasks.setdefault(owner, {}) if owner else shared)[linear] = int(rank)
    if unknown := tasks.keys() - set(spec.task_names):
        raise TrainingError(f"ranks of {', '.join(sorted(unknown))}: the set has {', '.join(spec.task_names)}")
    described = tuple(TaskSpec(**{**dict(task), "linear_ranks": tasks.get(task.task, {})}) for task in spec.tasks)
    return AdapterSpec(**{**dict(spec), "tasks": described, "linear_ranks": shared})


def _ranks_of_file(file: Path | None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    if file is None:
        return {}, {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"--ranks-file {file} cannot be read: {error}") from error
    if not isinstance(said, dict) or said.keys() - {"shared", "tasks"}:
        raise TrainingError(f'--ranks-file {file}: an object with "shared" and "tasks" is needed')
    shared, tasks = said.get("shared", {}), said.get("tasks", {})
    if not isinstance(tasks, dict) or not all(isinstance(ranks, dict) for ranks in (shared, *tasks.values())):
        raise TrainingError(f"--ranks-file {file}: ranks must be objects of linears' names and numbers")
    return shared, tasks
