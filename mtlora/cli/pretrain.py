"""The command `mtlora pretrain`; see docs/training.md."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.cli import options as o
from mtlora.cli.say import say

if TYPE_CHECKING:
    from mtlora.data.records import PhotoDataset
    from mtlora.training.pretraining.pretrain import PretrainConfig
    from mtlora.training.run.loop import LoopConfig
    from mtlora.vocabulary.spec import AdapterSpec


def pretrain(  # noqa: PLR0913 (a command's options)
    data: o.DataOption,
    out: o.OutOption,
    name: Annotated[str, typer.Option(help="Name of the backbone.")] = "mtlora-swin",
    unlabelled: Annotated[Path | None, typer.Option(help="Folder of more photos, for distillation only.")] = None,
    init: Annotated[Path | None, typer.Option(help="Run whose weights are taken over.")] = None,
    tasks: o.TasksOption = "semseg,human_parts,saliency,normals",
    split: o.SplitOption = "train",
    image_size: Annotated[int, typer.Option(help="Side trained at in this run, e.g. 112 first and 224 later.")] = 224,
    width: Annotated[int, typer.Option(help="Channels of stage 0.")] = 48,
    depths: Annotated[str, typer.Option(help="Blocks in stages 0..3.")] = "2,2,4,2",
    heads: Annotated[str, typer.Option(help="Attention heads in stages 0..3.")] = "2,4,8,16",
    window: Annotated[int, typer.Option(help="Side of the attention windows.")] = 7,
    decoder_channels: o.ChannelsOption = "16,24,40,64",
    distill: Annotated[float, typer.Option(help="Weight of the teacher's features; 0: no teacher.")] = 1.0,
    semantic: Annotated[float, typer.Option(help="Weight of the teacher's classes.")] = 0.3,
    teacher: Annotated[
        str, typer.Option(help="stored: features of whole photos, computed once; live: of every crop, for a GPU.")
    ] = "stored",
    zoom: Annotated[str, typer.Option(help="Smallest and largest zoom of photos.")] = "0.8,2",
    jitter: Annotated[float, typer.Option(help="Strength of colour changes, 0..1.")] = 0.3,
    optimizer: Annotated[str, typer.Option(help="muon or adamw.")] = "muon",
    steps: o.StepsOption = 0,
    epochs: o.EpochsOption = 30.0,
    batch: o.BatchOption = 32,
    accumulate: o.AccumulateOption = 1,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
    warmup: o.WarmupOption = -1,
    hold: o.HoldOption = 0.0,
    final_lr: Annotated[float, typer.Option(help="Where warm-up starts and decay ends, as a share of --lr.")] = 0.01,
    ema: o.EmaOption = 0.998,
    drop_path: o.DropPathOption = 0.05,
    weight_decay: o.WeightDecayOption = 0.05,
    loss_weights: o.WeightsOption = "semseg=1,human_parts=1,saliency=2,normals=3",
    class_balance: o.ClassBalanceOption = 0.3,
    processes: o.ProcessesOption = 1,
    device: o.DeviceOption = "auto",
    precision: o.PrecisionOption = "auto",
    seed: o.SeedOption = 0,
    cache: o.CacheOption = Path("runs/cache"),
    save_every: o.SaveEveryOption = 100,
    log_every: o.LogEveryOption = 20,
    tensorboard: o.TensorboardOption = True,
    resume: o.ResumeOption = False,
) -> None:
    """Train a small Swin from scratch on all tasks and a teacher's features; writes OUT/backbone.safetensors."""
    _run(_config(locals()), resume)


def _config(given: dict[str, Any]) -> "PretrainConfig":
    """The settings of a run from the command's options, by name."""
    from mtlora.data.layout import open_dataset
    from mtlora.training.pretraining.pretrain import PRETRAIN_AUGMENT, PretrainConfig
    from mtlora.training.pretraining.teacher_maps import TeacherKind
    from mtlora.training.run.optim import OptimizerKind

    dataset = open_dataset(given["data"], given["split"])
    alike = (
        "data out cache split unlabelled init image_size batch accumulate processes weight_decay drop_path distill"
        " semantic class_balance"
    )
    return PretrainConfig(
        spec=_spec(dataset, given),
        loop=_loop(dataset, given),
        optimizer=o.member(OptimizerKind, given["optimizer"], "optimizer"),
        teacher=o.member(TeacherKind, given["teacher"], "teacher"),
        augment=replace(PRETRAIN_AUGMENT, scale=o.zoom_range(given["zoom"]), jitter=given["jitter"]),
        task_weights=o.task_weights(given["loss_weights"]),
        **{field: given[field] for field in alike.split()},
    )


def _spec(dataset: "PhotoDataset", given: dict[str, Any]) -> "AdapterSpec":
    from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec

    shape = BackboneSpec(
        name=given["name"],
        embed_dim=given["width"],
        depths=o.four(given["depths"], "depths"),
        num_heads=o.four(given["heads"], "heads"),
        window_size=given["window"],
    )
    return AdapterSpec(
        backbone=shape,
        image_size=32 * given["window"],  # the smallest side at which every stage has a whole window
        tasks=o.task_specs(given["tasks"], "", "4,4,4,4", 4.0, "hrnet", dataset),
        ranks=(16, 16, 16, 16),
        decoder_channels=o.four(given["decoder_channels"], "decoder channels"),
        antialias=True,
    )


def _loop(dataset: "PhotoDataset", given: dict[str, Any]) -> "LoopConfig":
    from mtlora.training.run.loop import LoopConfig
    from mtlora.training.run.precision import Precision

    steps = o.step_count(dataset, given["steps"], given["epochs"], given["batch"])
    return LoopConfig(
        steps=steps,
        lr=given["lr"],
        warmup=round(steps * o.WARMUP_SHARE) if given["warmup"] < 0 else given["warmup"],
        hold=given["hold"],
        floor=given["lr"] * given["final_lr"],
        ema_decay=given["ema"],
        device=o.device_name(given["device"]),
        precision=o.member(Precision, given["precision"], "precision"),
        **{field: given[field] for field in ("seed", "save_every", "log_every", "tensorboard")},
    )


def _run(config: "PretrainConfig", resume: bool) -> None:
    from mtlora.training.pretraining.pretrain import pretrain as run
    from mtlora.training.run.console import ConsoleReport, report_caching
    from mtlora.training.run.processes import leading

    written = run(config, ConsoleReport("pretrain"), report_caching, resume=resume)
    if leading():
        say(f"{written}: {config.spec.backbone.name}, {written.stat().st_size / 1e6:.1f} MB")
