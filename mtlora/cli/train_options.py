"""Options of `mtlora train`, in the order in which its help lists them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from mtlora.cli import options as o
from mtlora.cli.hub import local_path
from mtlora.cli.option_groups import Needs

BY_RECIPE = (
    "steps",
    "epochs",
    "batch",
    "lr",
    "warmup",
    "ema",
    "drop_path",
    "image_side",
    "label_stride",
    "class_balance",
    "jitter",
    "rotate",
    "zoom",
    "val_every",
    "val_photos",
    "processes",
)
"""Options whose defaults a recipe chooses; they are None where they are not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOptions:
    """The set that is made: from which data, how, and for which tasks."""

    data: o.DataOption
    out: o.OutOption
    backbone: o.BackboneOption = None
    name: Annotated[str, typer.Option(help="Name the set carries.")] = ""
    method: Annotated[
        str, typer.Option(help="mtlora, mtlora+, lora (TA pairs only), bitfit, decoders, full, or single.")
    ] = "mtlora"
    tasks: o.TasksOption = "semseg,human_parts,saliency,normals"
    semseg_classes: Annotated[str, typer.Option(help="Comma list of classes; default: all of the dataset's.")] = ""
    split: o.SplitOption = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeOptions:
    """Sizes of the input, of the pairs and of the decoders."""

    image_size: Annotated[int, typer.Option(help="Input side in pixels.")] = 224
    image_side: Annotated[
        int | None, typer.Option(help="Train at this side instead, e.g. 112: a quarter of the pixels; 0: --image-size.")
    ] = None
    ranks: Annotated[str, typer.Option(help="Ranks of the shared pairs in stages 0..3.")] = "16,16,16,16"
    task_ranks: Annotated[str, typer.Option(help="Ranks of the task pairs in stages 0..3.")] = "4,4,4,4"
    ranks_file: Annotated[
        Path | None,
        typer.Option(help='Ranks of single linears: {"shared": {LINEAR: N}, "tasks": {TASK: {LINEAR: N}}}.'),
    ] = None
    rank_of: Annotated[
        list[str] | None, typer.Option(help="LINEAR=N or TASK:LINEAR=N, e.g. layers.2.blocks.1.mlp.fc1=8; repeatable.")
    ] = None
    scaling: Annotated[float, typer.Option(help="Multiplier of B A x, shared and task pairs.")] = 4.0
    decoder: Annotated[str, typer.Option(help="hrnet, segformer or aspp.")] = "hrnet"
    decoder_channels: o.ChannelsOption = "18,36,72,144"
    antialias: Annotated[bool, typer.Option(help="Resize photos with antialiasing (published models: without).")] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """Where a run begins, how long it is, and what a step does to the weights; None: as the recipe says."""

    recipe: Annotated[
        str,
        typer.Option(help="Defaults of the options that name none: auto (by the size of the data), or paper."),
    ] = "auto"
    init: Annotated[
        Path | None,
        typer.Option(
            parser=local_path,
            metavar="PATH",
            help="Run, adapter file or hf://ORG/REPO/FILE whose weights are taken.",
        ),
    ] = None
    photos: Annotated[int, typer.Option(help="Train on so many photos, evenly from the list; 0: all.")] = 0
    steps: Annotated[int | None, typer.Option(help="Optimisation steps.")] = None
    epochs: Annotated[float | None, typer.Option(help="Passes over the photos, instead of --steps.")] = None
    batch: Annotated[int | None, typer.Option(help="Photos a step, over all processes and accumulation steps.")] = None
    accumulate: o.AccumulateOption = 1
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Activation checkpointing: less memory, more time.")
    ] = False
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; 0: the published 5e-4 * batch / 512.")] = None
    warmup: Annotated[
        int | None, typer.Option(help="Steps of linear warm-up; default: the published share, 1/15 of all.")
    ] = None
    hold: o.HoldOption = 0.0
    final_lr: o.FinalLrOption = 0.01
    ema: Annotated[float | None, typer.Option(help="Moving average of the weights, e.g. 0.998; 0: none.")] = None
    drop_path: Annotated[float | None, typer.Option(help="Stochastic depth of the last block.")] = None
    weight_decay: o.WeightDecayOption = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """How losses are taken and weighed; None: as the recipe says."""

    label_stride: Annotated[int | None, typer.Option(help="Take losses at 1/N of the input's side (faster).")] = None
    loss_weights: o.WeightsOption = ""
    class_balance: Annotated[
        float | None,
        typer.Option(help="Exponent of inverse-frequency class weights; above 0 rare photos are drawn more often."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentOptions:
    """How photos are varied; None: as the recipe says."""

    jitter: Annotated[float | None, typer.Option(help="Strength of colour changes, 0..1.")] = None
    rotate: Annotated[float | None, typer.Option(help="Photos turn by up to so many degrees.")] = None
    zoom: Annotated[str | None, typer.Option(help="Smallest and largest zoom of photos, as 0.75,1.25.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationOptions:
    """Scores while training, and the report at the end."""

    val_every: Annotated[int | None, typer.Option(help="Steps between looks at the validation split; 0: never.")] = None
    val_split: Annotated[str, typer.Option(help="Split that is looked at.")] = "val"
    val_photos: Annotated[int | None, typer.Option(help="Look at so many of it, evenly from the list; 0: all.")] = None
    patience: Annotated[int, typer.Option(help="Stop after so many looks without a better delta_m; 0: never.")] = 0
    baseline: Annotated[
        Path | None,
        typer.Option(help="JSON of `mtlora evaluate --json`: the single-task scores of delta_m."),
    ] = None
    report_photos: Annotated[
        int, typer.Option(help="Photos that report.html is made of, evenly from the list; 0: no report.")
    ] = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherOptions:
    """Another set that is learned from."""

    teacher: Annotated[Path | None, typer.Option(help="Adapter file whose logits are learned from.")] = None
    teacher_backbone: Annotated[
        Path | None, typer.Option(help="Its backbone, if it is another."), Needs(("teacher",))
    ] = None
    soft_labels: Annotated[
        Path | None, typer.Option(help="Stored logits (`mtlora data soft-labels`) instead of a teacher.")
    ] = None
    distill: Annotated[
        float, typer.Option(help="Weight of the teacher, the labels' being 1."), Needs(("teacher", "soft_labels"))
    ] = 1.0
    temperature: Annotated[
        float, typer.Option(help="Softens the teacher's classes."), Needs(("teacher", "soft_labels"))
    ] = 2.0


KEEP = "keep"
"""`--policy`: that of `--init`, which is not trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """What decides, photo by photo, which parts of the encoder are computed."""

    policy: Annotated[
        str,
        typer.Option(
            help="pooled or published: train a policy with the set; keep: that of --init, as it is. Default: all is "
            "computed, always."
        ),
    ] = ""
    policy_mode: Annotated[
        str, typer.Option(help="single, or per_task: tasks have gates of their own."), Needs(("policy",))
    ] = "single"
    policy_gates: Annotated[
        str,
        typer.Option(help="Comma list of blocks, windows (pooled), tokens (published); default: both it can have."),
        Needs(("policy",)),
    ] = ""
    policy_hidden: Annotated[
        str,
        typer.Option(help="Hidden units for blocks, and for windows or tokens; default: 32,32, published 64,64."),
        Needs(("policy",)),
    ] = ""
    least_compute: Annotated[
        float, typer.Option(help="Budgets are drawn from here to 1, anew for each batch."), Needs(("policy",))
    ] = 0.3
    budget_weight: Annotated[float, typer.Option(help="Weight of (share computed - budget)^2."), Needs(("policy",))] = (
        10.0
    )
    open_share: Annotated[
        float, typer.Option(help="Share of the steps, at the start, in which all is computed."), Needs(("policy",))
    ] = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """All of them."""

    set: SetOptions
    shape: ShapeOptions = field(default_factory=ShapeOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    validation: ValidationOptions = field(default_factory=ValidationOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    policy: PolicyOptions = field(default_factory=PolicyOptions)
    run: o.RunOptions = field(default_factory=o.RunOptions)

    def given(self) -> dict[str, Any]:
        """The options that a recipe has values for, by name; None: not given."""
        groups = (self.shape, self.schedule, self.loss, self.augment, self.validation, self.run)
        return {name: getattr(group, name) for group in groups for name in BY_RECIPE if hasattr(group, name)}

    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be trained, write OUT/batch.png, train nothing.")
    ] = False
    resume: o.ResumeOption = False
