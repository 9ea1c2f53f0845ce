"""The command `mtlora train`; see docs/training.md."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.cli import options as o
from mtlora.cli.say import say
from mtlora.vocabulary.errors import TrainingError

if TYPE_CHECKING:
    from mtlora.data.records import PhotoDataset
    from mtlora.training.adapters.config import TrainConfig, Validation
    from mtlora.training.run.loop import LoopConfig
    from mtlora.vocabulary.spec import AdapterSpec
    from mtlora.vocabulary.tasks import Task


def train(  # noqa: PLR0913 (a command's options)
    data: o.DataOption,
    out: o.OutOption,
    backbone: o.BackboneOption = None,
    name: Annotated[str, typer.Option(help="Name the set carries.")] = "",
    method: Annotated[
        str, typer.Option(help="mtlora, mtlora+, lora (TA pairs only), bitfit, decoders, full, or single.")
    ] = "mtlora",
    tasks: o.TasksOption = "semseg,human_parts,saliency,normals",
    semseg_classes: Annotated[str, typer.Option(help="Comma list of classes; default: all of the dataset's.")] = "",
    split: o.SplitOption = "train",
    image_size: Annotated[int, typer.Option(help="Input side in pixels.")] = 224,
    image_side: Annotated[
        int, typer.Option(help="Train at this side instead, e.g. 112: a quarter of the pixels; 0: --image-size.")
    ] = 0,
    ranks: Annotated[str, typer.Option(help="Ranks of the shared pairs in stages 0..3.")] = "16,16,16,16",
    task_ranks: Annotated[str, typer.Option(help="Ranks of the task pairs in stages 0..3.")] = "4,4,4,4",
    scaling: Annotated[float, typer.Option(help="Multiplier of B A x, shared and task pairs.")] = 4.0,
    decoder: Annotated[str, typer.Option(help="hrnet, segformer or aspp.")] = "hrnet",
    decoder_channels: o.ChannelsOption = "18,36,72,144",
    antialias: Annotated[
        bool, typer.Option(help="Resize photos with antialiasing (published models: without).")
    ] = True,
    init: Annotated[Path | None, typer.Option(help="Run whose weights are taken over: see the docs.")] = None,
    photos: Annotated[int, typer.Option(help="Train on so many photos, evenly from the list; 0: all.")] = 0,
    steps: o.StepsOption = 0,
    epochs: o.EpochsOption = float(o.PUBLISHED_EPOCHS),
    batch: o.BatchOption = 16,
    accumulate: o.AccumulateOption = 1,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Activation checkpointing: less memory, more time.")
    ] = False,
    lr: o.LrOption = 0.0,
    warmup: o.WarmupOption = -1,
    hold: o.HoldOption = 0.0,
    final_lr: o.FinalLrOption = 0.01,
    ema: o.EmaOption = 0.0,
    drop_path: o.DropPathOption = 0.2,
    weight_decay: o.WeightDecayOption = 0.05,
    label_stride: Annotated[int, typer.Option(help="Take losses at 1/N of the input's side (faster).")] = 1,
    loss_weights: o.WeightsOption = "",
    class_balance: o.ClassBalanceOption = 0.0,
    jitter: Annotated[float, typer.Option(help="Strength of colour changes, 0..1.")] = 0.0,
    rotate: Annotated[float, typer.Option(help="Photos turn by up to so many degrees.")] = 20.0,
    zoom: Annotated[str, typer.Option(help="Smallest and largest zoom of photos.")] = "0.75,1.25",
    val_every: Annotated[int, typer.Option(help="Steps between looks at the validation split; 0: never.")] = 0,
    val_split: Annotated[str, typer.Option(help="Split that is looked at.")] = "val",
    val_photos: Annotated[int, typer.Option(help="Look at so many of it, evenly from the list; 0: all.")] = 0,
    patience: Annotated[int, typer.Option(help="Stop after so many looks without a better delta_m; 0: never.")] = 0,
    baseline: Annotated[
        Path | None, typer.Option(help="JSON of `mtlora evaluate --json`: the single-task scores of delta_m.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="Adapter file whose logits are learned from.")] = None,
    teacher_backbone: Annotated[Path | None, typer.Option(help="Its backbone, if it is another.")] = None,
    soft_labels: Annotated[
        Path | None, typer.Option(help="Stored logits (`mtlora data soft-labels`) instead of a teacher.")
    ] = None,
    distill: Annotated[float, typer.Option(help="Weight of the teacher, the labels' being 1.")] = 1.0,
    temperature: Annotated[float, typer.Option(help="Softens the teacher's classes.")] = 2.0,
    processes: o.ProcessesOption = 1,
    device: o.DeviceOption = "auto",
    precision: o.PrecisionOption = "auto",
    seed: o.SeedOption = 0,
    cache: o.CacheOption = Path("runs/cache"),
    save_every: o.SaveEveryOption = 100,
    log_every: o.LogEveryOption = 10,
    tensorboard: o.TensorboardOption = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be trained, write OUT/batch.png, train nothing.")
    ] = False,
    resume: o.ResumeOption = False,
) -> None:
    """Train an adapter set on a frozen backbone; writes OUT/adapter.safetensors."""
    config = make_config(locals())
    if dry_run:
        _dry_run(config)
    else:
        _run(config, resume)


def make_config(given: dict[str, Any]) -> "TrainConfig":
    """The settings of a run from the command's options, by name."""
    from mtlora.data.augment import AugmentConfig
    from mtlora.data.layout import open_dataset
    from mtlora.training.adapters.config import TrainConfig
    from mtlora.training.adapters.methods import Method, spec_for, unfreeze_for
    from mtlora.weights.bundled import find_backbone

    dataset = open_dataset(given["data"], given["split"]).spread(given["photos"])
    path = find_backbone(given["backbone"])
    method = o.member(Method, given["method"], "method")
    alike = (
        "data out name split photos init image_side batch accumulate recompute processes weight_decay drop_path"
        " label_stride class_balance teacher teacher_backbone soft_labels distill temperature cache"
    )
    return TrainConfig(
        spec=spec_for(method, _spec(path, dataset, given)),
        backbone=path,
        method=method.value,
        unfreeze=unfreeze_for(method),
        loop=_loop(dataset, given),
        task_weights=o.task_weights(given["loss_weights"]),
        augment=AugmentConfig(jitter=given["jitter"], rotate_deg=given["rotate"], scale=o.zoom_range(given["zoom"])),
        validation=_validation(given),
        **{field: given[field] for field in alike.split()},
    )


def _spec(backbone: Path, dataset: "PhotoDataset", given: dict[str, Any]) -> "AdapterSpec":
    from mtlora.vocabulary.spec import AdapterSpec
    from mtlora.weights.backbone import load_backbone

    return AdapterSpec(
        backbone=load_backbone(backbone).spec,
        image_size=given["image_size"],
        tasks=o.task_specs(
            given["tasks"], given["semseg_classes"], given["task_ranks"], given["scaling"], given["decoder"], dataset
        ),
        ranks=o.four(given["ranks"], "ranks"),
        scaling=(given["scaling"],) * 4,
        decoder_channels=o.four(given["decoder_channels"], "decoder channels"),
        antialias=given["antialias"],
    )


def _loop(dataset: "PhotoDataset", given: dict[str, Any]) -> "LoopConfig":
    from mtlora.training.run.loop import LoopConfig
    from mtlora.training.run.precision import Precision

    steps = o.step_count(dataset, given["steps"], given["epochs"], given["batch"])
    lr = given["lr"] or 5e-4 * given["batch"] / 512
    return LoopConfig(
        steps=steps,
        lr=lr,
        warmup=round(steps * o.WARMUP_SHARE) if given["warmup"] < 0 else given["warmup"],
        warmup_from=lr * o.PUBLISHED_WARMUP_FROM,
        hold=given["hold"],
        floor=lr * given["final_lr"],
        ema_decay=given["ema"],
        device=o.device_name(given["device"]),
        precision=o.member(Precision, given["precision"], "precision"),
        **{field: given[field] for field in ("seed", "save_every", "log_every", "tensorboard")},
    )


def _validation(given: dict[str, Any]) -> "Validation | None":
    from mtlora.training.adapters.config import Validation

    if not given["val_every"]:
        if given["patience"]:
            raise TrainingError(f"--patience {given['patience']} needs --val-every")
        return None
    return Validation(
        every=given["val_every"],
        split=given["val_split"],
        photos=given["val_photos"],
        patience=given["patience"],
        baseline={} if given["baseline"] is None else _baseline(given["baseline"]),
    )


def _baseline(path: Path) -> "dict[Task, float]":
    from mtlora.metrics import HEADLINE
    from mtlora.vocabulary.tasks import parse_task

    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        return {parse_task(name): float(scores[HEADLINE[parse_task(name)]]) for name, scores in tasks.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} does not hold scores as `mtlora evaluate --json` prints them: {error}") from error


def _run(config: "TrainConfig", resume: bool) -> None:
    from mtlora.training.adapters.train import train as run
    from mtlora.training.run.console import ConsoleReport, report_caching
    from mtlora.training.run.processes import leading
    from mtlora.weights.adapter_file import read_manifest

    written = run(config, ConsoleReport("train"), report_caching, resume=resume)
    if leading():
        weights = f"weights of step {read_manifest(written).provenance['steps']} of {config.loop.steps}"
        say(f"{written}: {', '.join(config.spec.task_names)}, {written.stat().st_size / 1e6:.1f} MB, {weights}")


def _dry_run(config: "TrainConfig") -> None:
    from rich.console import Console

    from mtlora.training.adapters.job import AdapterJob
    from mtlora.training.adapters.table import parameter_table
    from mtlora.training.adapters.train import open_cache, prepare_model
    from mtlora.training.run.console import report_caching
    from mtlora.training.run.picture import batch_picture
    from mtlora.training.run.processes import ProcessGroup
    from mtlora.weights.backbone import load_backbone

    group = ProcessGroup()
    photos = open_cache(config, report_caching)
    model = prepare_model(config, load_backbone(config.backbone), group)
    Console().print(parameter_table(model))
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "batch.png"
    batch_picture(AdapterJob(model, photos, config, group).make(0), config.spec).save(path)
    say(f"{config.loop.steps} steps of {config.batch} photos out of {len(photos)}; {path}: the first batch")
