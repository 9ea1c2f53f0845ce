"""Options of `mtlora pretrain`, in the order in which its help lists them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from mtlora.cli import options as o
from mtlora.cli.option_groups import Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Data, tasks, and what a run begins with."""

    data: o.DataOption
    out: o.OutOption
    name: Annotated[str, typer.Option(help="Name of the backbone.")] = "mtlora-swin"
    unlabelled: Annotated[Path | None, typer.Option(help="Folder of more photos, for distillation only.")] = None
    init: Annotated[Path | None, typer.Option(help="Run whose weights are taken over.")] = None
    tasks: o.TasksOption = "semseg,human_parts,saliency,normals"
    split: o.SplitOption = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeOptions:
    """Sizes of the input, of the encoder and of the decoders."""

    image_size: Annotated[int, typer.Option(help="Side trained at in this run, e.g. 112 first and 224 later.")] = 224
    width: Annotated[int, typer.Option(help="Channels of stage 0.")] = 48
    depths: Annotated[str, typer.Option(help="Blocks in stages 0..3.")] = "2,2,4,2"
    heads: Annotated[str, typer.Option(help="Attention heads in stages 0..3.")] = "2,4,8,16"
    window: Annotated[int, typer.Option(help="Side of the attention windows.")] = 7
    decoder_channels: o.ChannelsOption = "16,24,40,64"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherOptions:
    """What is learned from the teacher."""

    distill: Annotated[float, typer.Option(help="Weight of the teacher's features; 0: no teacher.")] = 1.0
    semantic: Annotated[float, typer.Option(help="Weight of the teacher's classes."), Needs(("distill",))] = 0.3
    teacher: Annotated[
        str,
        typer.Option(help="stored: features of whole photos, computed once; live: of every crop, for a GPU."),
        Needs(("distill",)),
    ] = "stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentOptions:
    """How photos are varied."""

    zoom: Annotated[str, typer.Option(help="Smallest and largest zoom of photos.")] = "0.8,2"
    jitter: Annotated[float, typer.Option(help="Strength of colour changes, 0..1.")] = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """How long a run is, and what a step does to the weights."""

    optimizer: Annotated[str, typer.Option(help="muon or adamw.")] = "muon"
    steps: o.StepsOption = 0
    epochs: o.EpochsOption = 30.0
    batch: o.BatchOption = 32
    accumulate: o.AccumulateOption = 1
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3
    warmup: o.WarmupOption = -1
    hold: o.HoldOption = 0.0
    final_lr: Annotated[float, typer.Option(help="Where warm-up starts and decay ends, as a share of --lr.")] = 0.01
    ema: o.EmaOption = 0.998
    drop_path: o.DropPathOption = 0.05
    weight_decay: o.WeightDecayOption = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """How losses are weighed."""

    loss_weights: o.WeightsOption = "semseg=1,human_parts=1,saliency=2,normals=3"
    class_balance: o.ClassBalanceOption = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainRunOptions(o.RunOptions):
    """As for `mtlora train`, with fewer rows."""

    log_every: o.LogEveryOption = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainOptions:
    """All of them."""

    source: SourceOptions
    shape: ShapeOptions = field(default_factory=ShapeOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    run: PretrainRunOptions = field(default_factory=PretrainRunOptions)
    resume: o.ResumeOption = False
