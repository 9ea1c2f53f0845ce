"""The configuration of an adapter set's training, as values."""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlora.data.augment import AugmentConfig
from mtlora.training.adapters.methods import Unfreeze
from mtlora.training.run.identity import settings_of
from mtlora.training.run.loop import LOOP_FREE, LOOP_LATER, LoopConfig
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.policy import PolicySpec, check_compute
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file.manifest import NAME_PATTERN


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Scores while training, and early stopping on delta_m."""

    every: int  # steps
    split: str = "val"
    photos: int = 0  # so many of the split, evenly from its list; 0: all
    patience: int = 0  # stop after so many looks without a better delta_m; 0: never
    baseline: dict[Task, float] = field(default_factory=dict)  # single-task scores; empty: the first look's

    def __post_init__(self) -> None:
        if self.every < 1 or self.photos < 0 or self.patience < 0:
            raise TrainingError(f"validation needs positive numbers, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTraining:
    """A policy that is trained with the set."""

    spec: PolicySpec
    least: float = 0.3  # budgets are drawn from here to 1
    weight: float = 10.0  # of (share - budget)^2 beside the tasks' losses
    open_steps: int = 0  # steps at the start in which everything is computed and no policy is asked
    kept: bool = False  # it stays as it is: only pairs and decoders learn to do with what it opens

    def __post_init__(self) -> None:
        check_compute(self.least)
        if self.weight <= 0 or self.open_steps < 0:
            raise TrainingError(
                f"a policy needs a weight above 0 and open steps from 0, got {self.weight} and {self.open_steps}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the training of an adapter set."""

    spec: AdapterSpec
    backbone: Path
    data: Path
    out: Path
    cache: Path
    loop: LoopConfig
    name: str = ""
    method: str = "mtlora"  # for the records; what it means is in `spec` and `unfreeze`
    unfreeze: Unfreeze = Unfreeze.NONE
    split: str = "train"
    photos: int = 0  # so many of the split, evenly from its list; 0: all
    init: Path | None = None  # a run or an adapter file whose weights are taken over; see `start_from`
    image_side: int = 0  # input side in training; 0: that of the spec
    batch: int = 16  # photos a step, over all processes and accumulation steps
    accumulate: int = 1  # forward and backward passes a step
    recompute: bool = False  # activation checkpointing
    processes: int = 1
    weight_decay: float = 0.05
    drop_path: float = 0.2
    label_stride: int = 1  # losses are taken at 1/stride of the input's side
    task_weights: dict[Task, float] = field(default_factory=dict)  # where not given: the published ones
    class_balance: float = 0.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    teacher: Path | None = None  # an adapter file whose logits are learned from
    teacher_backbone: Path | None = None  # None: the same as the set's
    soft_labels: Path | None = None  # logits stored before, instead of a teacher
    distill: float = 1.0  # weight of what is learned from a teacher, labels being 1
    temperature: float = 2.0
    validation: Validation | None = None
    policy: PolicyTraining | None = None
    report_photos: int = 60  # photos that the report is made of, evenly from their list; 0: no report
    recipe: dict[str, Any] = field(default_factory=dict)  # for the records: which defaults were chosen, and why

    def __post_init__(self) -> None:
        if self.name and not re.fullmatch(NAME_PATTERN, self.name):
            raise TrainingError(
                f"a set's name has at most 64 of a-z 0-9 . _ - and begins with a letter or digit, got {self.name!r}"
            )
        shares = self.processes * self.accumulate
        if min(self.batch, self.processes, self.accumulate) < 1 or self.batch % shares:
            raise TrainingError(
                f"a batch of {self.batch} cannot be shared by {self.processes} processes x {self.accumulate} steps"
            )
        if self.label_stride < 1 or self.side % self.label_stride:
            raise TrainingError(f"label stride {self.label_stride} does not divide {self.side} px")
        if self.teacher is not None and self.soft_labels is not None:
            raise TrainingError(f"give a teacher or soft labels, got {self.teacher} and {self.soft_labels}")
        if self.report_photos < 0:
            raise TrainingError(f"a report is made of 0 (none) or more photos, got {self.report_photos}")
        if self.distill < 0 or self.temperature <= 0:
            raise TrainingError(f"distillation needs positive numbers, got {self.distill} and {self.temperature}")

    @property
    def side(self) -> int:
        """Input side in training."""
        return self.image_side or self.spec.image_size

    def identity(self) -> dict[str, Any]:
        """What must not change when a run is resumed."""
        free = {"out", "cache", "data", "backbone", "init", "spec", "loop", "name", "method", "recompute", "processes"}
        free |= {"report_photos", "recipe"}
        later = {
            "photos",
            "image_side",
            "accumulate",
            "teacher",
            "teacher_backbone",
            "soft_labels",
            "distill",
            "temperature",
        }
        plain = settings_of(self, free=free, later=later | {"validation", "policy"})
        loop = settings_of(self.loop, free=LOOP_FREE, later=LOOP_LATER)
        return {**plain, "spec": self.spec.to_json(), "augment": dataclasses.asdict(self.augment), **loop}
