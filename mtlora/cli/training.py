"""`mtlora train`, `pretrain` and `evaluate`: see docs/training.md."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.errors import TrainingError

if TYPE_CHECKING:
    from mtlora.evaluate import TaskReport
    from mtlora.spec import AdapterSpec
    from mtlora.tasks import Task
    from mtlora.training.loop import LoopConfig
    from mtlora.training.pretrain import PretrainConfig
    from mtlora.training.train import TrainConfig

_PUBLISHED_EPOCHS = 300
_PUBLISHED_WARMUP_EPOCHS = 20
_WARMUP_SHARE = _PUBLISHED_WARMUP_EPOCHS / _PUBLISHED_EPOCHS

DataOption = Annotated[Path, typer.Option(help="Dataset folder; docs/dataset-format.md is its layout.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the run: checkpoint, metrics.csv, result.")]
TasksOption = Annotated[str, typer.Option(help="Comma list of tasks.")]
SplitOption = Annotated[str, typer.Option(help="Split: the list in ImageSets/SPLIT.txt.")]
CacheOption = Annotated[
    Path, typer.Option(help="Folder for decoded photos and teacher features; reused by later runs.")
]
StepsOption = Annotated[int, typer.Option(help="Optimisation steps; 0: as many as --epochs say.")]
EpochsOption = Annotated[float, typer.Option(help="Passes over the photos, where --steps is 0.")]
BatchOption = Annotated[int, typer.Option(help="Photos a step, over all processes.")]
LrOption = Annotated[float, typer.Option(help="Peak learning rate; 0: the published 5e-4 * batch / 512.")]
WarmupOption = Annotated[int, typer.Option(help="Steps of linear warm-up; -1: the published share, 1/15 of all.")]
HoldOption = Annotated[float, typer.Option(help="Share of the steps at the peak before the cosine decay, 0..1.")]
FinalLrOption = Annotated[float, typer.Option(help="Where warm-up starts and the decay ends, as a share of --lr.")]
EmaOption = Annotated[float, typer.Option(help="Moving average of the weights, e.g. 0.998; 0: none.")]
ProcessesOption = Annotated[int, typer.Option(help="Training processes; on a CPU: one per core is fastest.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
DropPathOption = Annotated[float, typer.Option(help="Stochastic depth of the last block.")]
WeightsOption = Annotated[str, typer.Option(help="Loss weights, e.g. semseg=1,normals=3; default: see the docs.")]
ClassBalanceOption = Annotated[float, typer.Option(help="Exponent of inverse-frequency class weights; 0: none.")]
ChannelsOption = Annotated[str, typer.Option(help="Decoder channels at the four scales.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint, if it has one.")]
SaveEveryOption = Annotated[int, typer.Option(help="Steps between checkpoints.")]
LogEveryOption = Annotated[int, typer.Option(help="Steps between rows of metrics.csv.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]


def train(  # noqa: PLR0913 (a command's options)
    data: DataOption,
    out: OutOption,
    backbone: Annotated[Path | None, typer.Option(help="Backbone file; default: the bundled one.")] = None,
    name: Annotated[str, typer.Option(help="Name the set carries.")] = "",
    tasks: TasksOption = "semseg,human_parts,saliency,normals",
    semseg_classes: Annotated[str, typer.Option(help="Comma list of classes; default: the 21 of VOC.")] = "",
    split: SplitOption = "train",
    image_size: Annotated[int, typer.Option(help="Input side in pixels.")] = 224,
    ranks: Annotated[str, typer.Option(help="Ranks of the shared pairs in stages 0..3.")] = "16,16,16,16",
    task_ranks: Annotated[str, typer.Option(help="Ranks of the task pairs in stages 0..3.")] = "4,4,4,4",
    scaling: Annotated[float, typer.Option(help="Multiplier of B A x, shared and task pairs.")] = 4.0,
    decoder: Annotated[str, typer.Option(help="hrnet, segformer or aspp.")] = "hrnet",
    decoder_channels: ChannelsOption = "18,36,72,144",
    antialias: Annotated[
        bool, typer.Option(help="Resize photos with antialiasing (published models: without).")
    ] = True,
    init: Annotated[Path | None, typer.Option(help="Pretraining run whose decoders are taken over.")] = None,
    steps: StepsOption = 0,
    epochs: EpochsOption = float(_PUBLISHED_EPOCHS),
    batch: BatchOption = 16,
    lr: LrOption = 0.0,
    warmup: WarmupOption = -1,
    hold: HoldOption = 0.0,
    final_lr: FinalLrOption = 0.01,
    ema: EmaOption = 0.0,
    drop_path: DropPathOption = 0.2,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of matrices.")] = 0.05,
    label_stride: Annotated[int, typer.Option(help="Take losses at 1/N of the input's side (faster).")] = 1,
    loss_weights: WeightsOption = "",
    class_balance: ClassBalanceOption = 0.0,
    jitter: Annotated[float, typer.Option(help="Strength of colour changes, 0..1.")] = 0.0,
    processes: ProcessesOption = 1,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    cache: CacheOption = Path("runs/cache"),
    save_every: SaveEveryOption = 100,
    log_every: LogEveryOption = 10,
    resume: ResumeOption = False,
) -> None:
    """Train an adapter set on a frozen backbone; writes OUT/adapter.safetensors."""
    from mtlora.data.augment import AugmentConfig
    from mtlora.store import find_backbone
    from mtlora.training.train import TrainConfig

    path = find_backbone(backbone)
    task_specs = _task_specs(tasks, semseg_classes, task_ranks, scaling, decoder)
    shape = {"image_size": image_size, "scaling": (scaling,) * 4, "antialias": antialias}
    spec = _adapter_spec(path, task_specs, ranks, decoder_channels, shape)
    rest = {"seed": seed, "save_every": save_every, "log_every": log_every, "device": device}
    loop = _loop(
        steps or _steps_of(data, split, epochs, batch), lr or 5e-4 * batch / 512, warmup, hold, final_lr, ema, **rest
    )
    files = {"backbone": path, "data": data, "out": out, "cache": cache, "name": name, "split": split, "init": init}
    recipe = {"batch": batch, "processes": processes, "weight_decay": weight_decay, "drop_path": drop_path}
    losses = {"label_stride": label_stride, "task_weights": _weights(loss_weights), "class_balance": class_balance}
    augment = AugmentConfig(jitter=jitter)
    _run_train(TrainConfig(spec=spec, loop=loop, augment=augment, **_options(files, recipe, losses)), resume)


def pretrain(  # noqa: PLR0913 (a command's options)
    data: DataOption,
    out: OutOption,
    name: Annotated[str, typer.Option(help="Name of the backbone.")] = "mtlora-swin",
    unlabelled: Annotated[Path | None, typer.Option(help="Folder of more photos, for distillation only.")] = None,
    init: Annotated[Path | None, typer.Option(help="Run whose weights are taken over.")] = None,
    tasks: TasksOption = "semseg,human_parts,saliency,normals",
    split: SplitOption = "train",
    image_size: Annotated[int, typer.Option(help="Side trained at in this run, e.g. 112 first and 224 later.")] = 224,
    width: Annotated[int, typer.Option(help="Channels of stage 0.")] = 48,
    depths: Annotated[str, typer.Option(help="Blocks in stages 0..3.")] = "2,2,4,2",
    heads: Annotated[str, typer.Option(help="Attention heads in stages 0..3.")] = "2,4,8,16",
    window: Annotated[int, typer.Option(help="Side of the attention windows.")] = 7,
    decoder_channels: ChannelsOption = "16,24,40,64",
    distill: Annotated[float, typer.Option(help="Weight of the teacher's features; 0: no teacher.")] = 1.0,
    semantic: Annotated[float, typer.Option(help="Weight of the teacher's classes.")] = 0.3,
    optimizer: Annotated[str, typer.Option(help="muon or adamw.")] = "muon",
    steps: StepsOption = 0,
    epochs: EpochsOption = 30.0,
    batch: BatchOption = 32,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
    warmup: WarmupOption = -1,
    hold: HoldOption = 0.0,
    final_lr: FinalLrOption = 0.01,
    ema: EmaOption = 0.998,
    drop_path: DropPathOption = 0.05,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of matrices.")] = 0.05,
    loss_weights: WeightsOption = "semseg=1,human_parts=1,saliency=2,normals=3",
    class_balance: ClassBalanceOption = 0.3,
    processes: ProcessesOption = 1,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    cache: CacheOption = Path("runs/cache"),
    save_every: SaveEveryOption = 100,
    log_every: LogEveryOption = 20,
    resume: ResumeOption = False,
) -> None:
    """Train a small Swin from scratch on all tasks and a teacher's features; writes OUT/backbone.safetensors."""
    from mtlora.training.optim import OptimizerKind
    from mtlora.training.pretrain import PretrainConfig

    spec = _pretrain_spec(name, tasks, (width, depths, heads, window), decoder_channels)
    rest = {"seed": seed, "save_every": save_every, "log_every": log_every, "device": device}
    loop = _loop(steps or _steps_of(data, split, epochs, batch), lr, warmup, hold, final_lr, ema, **rest)
    files = {"data": data, "out": out, "cache": cache, "split": split, "unlabelled": unlabelled, "init": init}
    recipe = {"batch": batch, "processes": processes, "weight_decay": weight_decay, "drop_path": drop_path}
    losses = {"distill": distill, "semantic": semantic, "class_balance": class_balance}
    kind = _member(OptimizerKind, optimizer, "optimizer")
    more = {"image_size": image_size, "optimizer": kind, "task_weights": _weights(loss_weights)}
    _run_pretrain(PretrainConfig(spec=spec, loop=loop, **_options(files, recipe, losses, more)), resume)


def evaluate(
    data: DataOption,
    adapter: Annotated[str, typer.Option(help="Bundled adapter set's name, or a .safetensors file.")],
    backbone: Annotated[Path | None, typer.Option(help="Backbone file; default: the bundled one.")] = None,
    split: SplitOption = "val",
    tasks: Annotated[str, typer.Option(help="Comma list of tasks; default: all of the set with labels.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Score an adapter set on a split: mIoU, saliency IoU, angles, in all and by the labels' origin."""
    from mtlora.adapted import build_adapted
    from mtlora.adapter_file import load_adapter
    from mtlora.backbone import load_backbone
    from mtlora.data.layout import open_dataset
    from mtlora.evaluate import evaluate as run
    from mtlora.store import find_adapter, find_backbone
    from mtlora.tasks import parse_tasks

    loaded = load_adapter(find_adapter(adapter))
    model = build_adapted(load_backbone(find_backbone(backbone)).to(_device(device)), loaded)
    wanted = parse_tasks(tasks)
    dataset = open_dataset(data, split, wanted)
    reports = run(model, dataset, wanted or None)
    if as_json:
        plain = {task.value: report.to_plain() for task, report in reports.items()}
        typer.echo(json.dumps({"split": split, "adapter": loaded.digest, "tasks": plain}, indent=2))
        return
    for task, report in reports.items():
        typer.echo("\n".join(_report_lines(task, report)))


def _run_train(config: "TrainConfig", resume: bool) -> None:
    from mtlora.training.console import ConsoleReport, report_caching
    from mtlora.training.train import train as run

    written = run(config, ConsoleReport("train"), report_caching, resume=resume)
    typer.echo(f"{written}: {', '.join(config.spec.task_names)}, {written.stat().st_size / 1e6:.1f} MB")


def _run_pretrain(config: "PretrainConfig", resume: bool) -> None:
    from mtlora.training.console import ConsoleReport, report_caching
    from mtlora.training.pretrain import pretrain as run

    written = run(config, ConsoleReport("pretrain"), report_caching, resume=resume)
    typer.echo(f"{written}: {config.spec.backbone.name}, {written.stat().st_size / 1e6:.1f} MB")


def _options(*groups: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for group in groups for name, value in group.items()}


def _adapter_spec(
    backbone: Path, tasks: tuple[Any, ...], ranks: str, channels: str, shape: Mapping[str, Any]
) -> "AdapterSpec":
    from mtlora.backbone import load_backbone
    from mtlora.spec import AdapterSpec

    fours = {"ranks": _four(ranks, "ranks"), "decoder_channels": _four(channels, "decoder channels")}
    return AdapterSpec(backbone=load_backbone(backbone).spec, tasks=tasks, **fours, **shape)


def _pretrain_spec(name: str, tasks: str, encoder: tuple[int, str, str, int], channels: str) -> "AdapterSpec":
    from mtlora.spec import AdapterSpec, BackboneSpec

    width, depths, heads, window = encoder
    blocks, attention = _four(depths, "depths"), _four(heads, "heads")
    shape = BackboneSpec(name=name, embed_dim=width, depths=blocks, num_heads=attention, window_size=window)
    return AdapterSpec(
        backbone=shape,
        image_size=32 * window,  # the smallest side at which every stage has a whole window
        tasks=_task_specs(tasks, "", "4,4,4,4", 4.0, "hrnet"),
        ranks=(16, 16, 16, 16),
        decoder_channels=_four(channels, "decoder channels"),
        antialias=True,
    )


def _report_lines(task: "Task", report: "TaskReport") -> list[str]:
    from mtlora.metrics import HEADLINE

    lines = [f"{task.value}: {HEADLINE[task]} {report.scores[HEADLINE[task]]:.4g} ({report.photos} photos)"]
    lines += [f"  {name} {value:.4g}" for name, value in report.scores.items() if name != HEADLINE[task]]
    lines += [
        f"  labels {origin}: {HEADLINE[task]} {part.scores[HEADLINE[task]]:.4g} ({part.photos} photos)"
        for origin, part in report.by_origin.items()
    ]
    return lines


def _task_specs(tasks: str, semseg_classes: str, ranks: str, scaling: float, decoder: str) -> tuple[Any, ...]:
    from mtlora.spec import DecoderKind, TaskSpec, familiar_classes
    from mtlora.tasks import Task, parse_tasks

    wanted = parse_tasks(tasks)
    if not wanted:
        raise TrainingError(f"--tasks names no task: {tasks!r}")
    names = tuple(part.strip() for part in semseg_classes.split(",") if part.strip())
    classes = {Task.SEMSEG: familiar_classes(names)} if names else {}
    return tuple(
        TaskSpec.make(
            task,
            classes=classes.get(task),
            ranks=_four(ranks, "task ranks"),
            scaling=(scaling,) * 4,
            decoder=_member(DecoderKind, decoder, "decoder"),
        )
        for task in wanted
    )


def _loop(steps: int, lr: float, warmup: int, hold: float, final: float, ema: float, **rest: Any) -> "LoopConfig":
    from mtlora.training.loop import LoopConfig

    rest["device"] = _device(rest["device"])
    ramp = round(steps * _WARMUP_SHARE) if warmup < 0 else warmup
    return LoopConfig(steps=steps, lr=lr, warmup=ramp, hold=hold, floor=lr * final, ema_decay=ema, **rest)


def _steps_of(data: Path, split: str, epochs: float, batch: int) -> int:
    from mtlora.data.layout import open_dataset

    return max(1, round(len(open_dataset(data, split)) * epochs / batch))


def _four(text: str, what: str) -> tuple[int, int, int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        raise TrainingError(f"{what}: four whole numbers with commas are needed, got {text!r}")
    a, b, c, d = (int(part) for part in parts)
    return a, b, c, d


def _weights(text: str) -> "dict[Task, float]":
    from mtlora.tasks import parse_task

    weights = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        try:
            weights[parse_task(name)] = float(value)
        except ValueError:
            raise TrainingError(f"loss weights look like semseg=1,normals=3, got {part!r}") from None
    return weights


def _member(kind: Any, value: str, what: str) -> Any:
    names: Iterable[str] = [member.value for member in kind]
    if value not in names:
        raise TrainingError(f"{what} must be one of {', '.join(names)}, got {value!r}")
    return kind(value)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise TrainingError(f"device must be cpu, cuda or auto, got {name!r}")
    return name
