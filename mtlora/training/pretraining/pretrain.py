"""The run of `mtlora pretrain`: all weights of a small Swin, by four dense tasks and a distillation teacher at once.

A transformer from scratch on a few thousand photos learns shapes but hardly classes; the teacher's dense features
bring those. They are cached and sampled with the photo's own geometry, or the teacher looks at every crop itself.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from mtlora.data.array_store import PhotoArrays
from mtlora.data.augment import AugmentConfig, Batch, make_batch
from mtlora.data.cache import PhotoCache, Progress, cached, no_progress
from mtlora.data.layout import open_dataset, open_photos
from mtlora.data.records import PhotoDataset
from mtlora.data.sampling import draw, step_generator
from mtlora.losses import feature_loss, semantic_loss, task_loss
from mtlora.training.adapters.balance import balance
from mtlora.training.pretraining.model import DISTILLED_STAGES, PretrainModel
from mtlora.training.pretraining.teacher import (
    CHANNELS,
    TeacherCache,
    cached_features,
    default_weights,
    load_teacher,
    teacher_head,
)
from mtlora.training.pretraining.teacher_maps import LIVE_SIDE_PX, LiveMaps, StoredMaps, TeacherKind, TeacherMaps
from mtlora.training.run.checkpoint import load_checkpoint
from mtlora.training.run.identity import settings_of
from mtlora.training.run.loop import LOOP_FREE, LOOP_LATER, LoopConfig, Part, StepReport, Trainer, run_loop
from mtlora.training.run.optim import Muon, OptimizerKind, build_adamw
from mtlora.training.run.processes import ProcessGroup, leading, run_crew
from mtlora.training.run.record import write_record
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import Backbone, save_backbone

BACKBONE_FILE = "backbone.safetensors"
PRETRAIN_AUGMENT = AugmentConfig(scale=(0.8, 2.0), rotate_deg=10.0, stretch=1.25, jitter=0.3, grey=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Everything that decides a pretraining run."""

    spec: AdapterSpec  # shape of the encoder and the decoders; its image size is only the default
    data: Path
    out: Path
    cache: Path
    loop: LoopConfig
    split: str = "train"
    unlabelled: Path | None = None
    init: Path | None = None  # a run whose weights are taken over
    image_size: int = 224
    batch: int = 32  # photos a step, over all processes
    processes: int = 1
    accumulate: int = 1  # forward and backward passes a step
    optimizer: OptimizerKind = OptimizerKind.MUON
    weight_decay: float = 0.05
    drop_path: float = 0.05
    distill: float = 1.0  # weight of the teacher's features; 0 needs no teacher
    semantic: float = 0.3  # weight of the teacher's classes
    teacher: TeacherKind = TeacherKind.STORED
    task_weights: dict[Task, float] = field(default_factory=dict)
    class_balance: float = 0.3  # exponent of the class weights of semseg and human_parts
    unlabelled_weight: float = 0.6  # how often an unlabelled photo is drawn, a labelled one being 1
    augment: AugmentConfig = PRETRAIN_AUGMENT

    def __post_init__(self) -> None:
        shares = self.processes * self.accumulate
        if min(self.batch, self.processes, self.accumulate) < 1 or self.batch % shares:
            raise TrainingError(
                f"a batch of {self.batch} cannot be shared by {self.processes} processes x {self.accumulate} steps"
            )

    @property
    def live(self) -> bool:
        """Whether a teacher looks at every crop."""
        return bool(self.distill) and self.teacher is TeacherKind.LIVE

    @property
    def crop_side(self) -> int:
        """Side at which crops are made: a live teacher wants more than a network at low resolution does."""
        return max(self.image_size, LIVE_SIDE_PX) if self.live else self.image_size

    def identity(self) -> dict[str, Any]:
        """What must not change when a run is resumed."""
        free = {"out", "cache", "data", "unlabelled", "init", "spec", "loop"}
        plain = settings_of(self, free=free, later={"accumulate", "teacher"})
        loop = settings_of(self.loop, free=LOOP_FREE, later=LOOP_LATER)
        return {**plain, "spec": self.spec.to_json(), "augment": dataclasses.asdict(self.augment), **loop}


def cache_side(image_size: int) -> int:
    """Side at which photos are cached: a little more than is trained on, for zooms."""
    return max(160, -(-image_size * 8 // 7 // 32) * 32)


def pretrain(
    config: PretrainConfig, report: StepReport, progress: Progress = no_progress, *, resume: bool = False
) -> Path:
    """Run to the end and write the encoder as a float16 backbone file; returns its path."""
    config.out.mkdir(parents=True, exist_ok=True)
    if leading():
        _open_data(config, progress)  # fill the caches before the processes start
    run_crew(_main, (config, report, resume), config.processes, config.out, config.loop.device)
    path = config.out / BACKBONE_FILE
    if leading():
        save_backbone(backbone_of(config.spec, load_checkpoint(config.out)), path, torch.float16)
    return path


def backbone_of(spec: AdapterSpec, state: dict[str, Any]) -> Backbone:
    """The encoder of a pretraining checkpoint (the moving average where there is one)."""
    tensors = state["average"] or state["model"]
    prefix = "backbone."
    kept = {name.removeprefix(prefix): t.clone() for name, t in tensors.items() if name.startswith(prefix)}
    return Backbone(spec.backbone, kept)


def _main(group: ProcessGroup, argument: tuple[PretrainConfig, StepReport, bool]) -> None:
    config, report, resume = argument
    torch.manual_seed(config.loop.seed)
    model = PretrainModel(config.spec, CHANNELS if config.distill else (), drop_path=config.drop_path)
    if config.init is not None:
        _take_over(model, load_checkpoint(config.init))
    model.set_image_size(config.image_size)
    model.to(group.device(config.loop.device)).train()
    job = PretrainJob(model, config, group)
    trainer = Trainer(job, _optimizers(model, config, group), config.loop, config.identity(), group)

    def begun(step: int) -> None:
        if group.leads:
            more = {"parameters": sum(p.numel() for p in model.parameters())}
            write_record(config.out, config, job.photos, more, step=step)

    run_loop(trainer, config.out, report, resume=resume, begun=begun)


def _take_over(model: PretrainModel, state: dict[str, Any]) -> None:
    tensors = {**state["model"], **state["average"]}
    missing, _ = model.load_state_dict(tensors, strict=False)
    lacking = [name for name in missing if not name.startswith("features.")]
    if lacking:
        raise TrainingError(f"the run to start from has another shape: it lacks {', '.join(lacking[:5])}")


def _optimizers(model: PretrainModel, config: PretrainConfig, group: ProcessGroup) -> list[torch.optim.Optimizer]:
    lr = config.loop.lr
    if config.optimizer is OptimizerKind.ADAMW:
        return [build_adamw(model.named_parameters(), lr, config.weight_decay)]
    matrices = {
        name: p
        for name, p in model.named_parameters()
        if name.startswith("backbone.layers.") and p.ndim == 2 and not name.endswith("table")
    }
    rest = [(name, p) for name, p in model.named_parameters() if name not in matrices]
    muon = Muon(
        list(matrices.values()),
        lr,
        weight_decay=config.weight_decay,
        rank=group.rank,
        processes=group.processes,
        share=group.add_up if group.processes > 1 else None,
    )
    return [muon, build_adamw(rest, lr, config.weight_decay)]


def _open_data(
    config: PretrainConfig, progress: Progress = no_progress
) -> tuple[PhotoDataset, PhotoCache, TeacherCache | None]:
    tasks = config.spec.task_names
    dataset = open_dataset(config.data, config.split, tasks)
    if config.unlabelled is not None:
        if not config.distill:
            raise TrainingError("unlabelled photos teach nothing without distillation; set its weight above 0")
        records = dataset.records + open_photos(config.unlabelled).records
        dataset = PhotoDataset(config.data, f"{config.split}+unlabelled", records)
    photos = cached(dataset, tasks, cache_side(config.crop_side), config.cache, progress)
    stored = config.distill and not config.live
    features = cached_features(dataset, default_weights(), config.cache, progress) if stored else None
    return dataset, photos, features


class PretrainJob:
    """Draws batches and computes the losses of one process; see `Job`.

    Processes draw photos of their own and normalise over their own batches: nothing waits in the middle of a step.
    """

    def __init__(self, model: PretrainModel, config: PretrainConfig, group: ProcessGroup) -> None:
        self.model, self.config = model, config
        shares = group.processes * config.accumulate
        if config.batch % shares:
            raise TrainingError(f"a batch of {config.batch} cannot be shared by {shares} parts of a step")
        self._rank, self._shares, self._device = group.rank, shares, group.device(config.loop.device)
        _, self.photos, features = _open_data(config)
        self._arrays = PhotoArrays.of(self.photos, self._device)
        self._balance = balance(self.photos, config.spec, config.class_balance)
        self._weights = np.where(self._balance.photos > 0, self._balance.photos, config.unlabelled_weight)
        self._lesson = self._open_teacher(features) if config.distill else None
        self._mean = torch.tensor(config.spec.mean, device=self._device)[:, None, None]
        self._std = torch.tensor(config.spec.std, device=self._device)[:, None, None]

    def _open_teacher(self, features: TeacherCache | None) -> tuple[TeacherMaps, nn.Module]:
        """What the teacher sees in a batch, and its classifier."""
        model = load_teacher(default_weights()).to(self._device)
        maps = LiveMaps(model, self._arrays) if features is None else StoredMaps(features, self._device)
        return maps, teacher_head(model).to(self._device)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """`loss`, one per task, and with a teacher one per scale and one for its classes."""
        teacher = (*(f"features_{8 << k}" for k in range(len(CHANNELS))), "semantic") if self._lesson else ()
        return ("loss", *(t.value for t in self.config.spec.task_names), *teacher)

    @property
    def batch(self) -> int:
        """See `Job.batch`."""
        return self.config.batch

    def parts(self, step: int) -> list[Part]:
        """See `Job.parts`."""
        generator = step_generator(self.config.loop.seed, step, self._rank)
        return [partial(self._losses, generator)] * self.config.accumulate

    def _losses(self, generator: Generator) -> dict[str, Tensor]:
        config = self.config
        size = config.image_size
        indices = draw(self._weights, config.batch // self._shares, generator)
        batch = make_batch(self._arrays, indices, config.crop_side, config.augment, generator, label_size=size // 2)
        photos = batch.photos if config.crop_side == size else F.interpolate(batch.photos, (size, size), mode="area")
        outputs = self.model((photos - self._mean) / self._std)
        losses = {task.value: self._task_loss(task, batch, outputs.logits[task]) for task in config.spec.task_names}
        total = torch.stack([config.task_weights.get(Task(name), 1.0) * loss for name, loss in losses.items()]).sum()
        if self._lesson is not None:
            taught = self._teacher_losses(*self._lesson, batch, outputs.features)
            semantic = taught["semantic"]
            features = torch.stack([v for name, v in taught.items() if name != "semantic"]).sum()
            total = total + config.distill * features + config.semantic * semantic
            losses |= taught
        return {name: loss / self._shares for name, loss in {"loss": total, **losses}.items()}

    def _task_loss(self, task: Task, batch: Batch, logits: Tensor) -> Tensor:
        target = self._balance.target(task, batch.targets[task])
        logits = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)
        weight = self._balance.classes.get(task)
        return task_loss(task, logits, target, None if weight is None else weight.to(logits.device))

    def _teacher_losses(
        self, teacher: TeacherMaps, head: nn.Module, batch: Batch, predicted: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        strides = [8 << k for k in range(len(predicted))]
        sides = [features.shape[-1] for features in predicted]
        extents = [side * stride / self.config.image_size for side, stride in zip(sides, strides, strict=True)]
        targets = teacher.targets(batch, sides, extents)
        for stride, side, extent, features, target in zip(strides, sides, extents, predicted, targets, strict=True):
            inside = (batch.geometry.grid(side, side, extent).abs() <= 1).all(dim=-1)[:, None]
            losses[f"features_{stride}"] = feature_loss(features.float(), target, inside)
        mean, std = teacher.mean, teacher.std
        losses["semantic"] = semantic_loss(head, features.float() * std + mean, target * std + mean, inside)
        return losses


if len(DISTILLED_STAGES) != len(CHANNELS):
    raise TrainingError(f"{len(DISTILLED_STAGES)} distilled stages for {len(CHANNELS)} teacher scales")
