"""The spec of an AdaMTL model: all that decides its tensors, and what is computed with them. Imports no torch."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from mtlora.adamtl.quirks import Quirks
from mtlora.vocabulary.errors import SpecError, TaskError
from mtlora.vocabulary.spec import IMAGENET_MEAN, IMAGENET_STD, MAX_CLASSES, BackboneSpec, Number, Spec, Switch, Whole
from mtlora.vocabulary.tasks import TRAITS, Task

SHARED = "shared"
"""Whose gates they are where all tasks have one policy."""


class Policy(StrEnum):
    """Who decides which blocks and tokens are computed."""

    SINGLE = "single"  # one set of selectors for the model
    PER_TASK = "per_task"  # one set for each task; what any of them wants is computed


class LayerLoss(StrEnum):
    """What the efficiency loss compares with the target share of tokens."""

    PLAIN = "plain"  # the share of the whole image
    PER_LAYER = "per_layer"  # the share of every block
    MIXED = "mixed"  # half of each


class Efficiency(Spec):
    """Targets and weights of the efficiency loss; shares are of counts of blocks and tokens, 0..1."""

    weight: Number = Field(default=1.0, ge=0, description="of this loss beside the tasks'")
    tokens_target: Number = Field(default=0.5, ge=0, le=1)
    blocks_target: Number = Field(default=0.9, ge=0, le=1)
    overlap_weight: Number = Field(default=0.0, ge=0, description="per_task: of the loss that makes tasks agree")
    layers: LayerLoss = LayerLoss.PLAIN
    weighted: Switch = Field(default=False, description="tokens count by their stage's width")


class AdaTask(Spec):
    """One task: how many channels its logits have."""

    task: Task
    outputs: Whole = Field(ge=1, le=MAX_CLASSES)

    @model_validator(mode="after")
    def _check(self) -> Self:
        fixed = TRAITS[self.task].outputs
        if fixed is not None and self.outputs != fixed:
            raise SpecError(f"task {self.task} has {fixed} outputs, got {self.outputs}")
        return self


class AdaSpec(Spec):
    """An AdaMTL model. Without `ada_blocks` and `ada_tokens` it is a plain Swin with AdaMTL's decoders."""

    backbone: BackboneSpec
    image_size: Whole = Field(description="input side S in pixels; block selectors fit this side only")
    tasks: tuple[AdaTask, ...] = Field(min_length=1, max_length=len(Task), description="in the order of their policies")
    policy: Policy = Policy.SINGLE
    adaptive: Switch = Field(default=True, description="gates act; else they are computed, and all blocks run in full")
    ada_blocks: Switch = Field(default=True, description="there are block selectors")
    ada_tokens: Switch = Field(default=True, description="there are token selectors")
    hard: Switch = Field(default=True, description="gates are 0 or 1 with the gradient of soft ones; else soft")
    block_hidden: Whole = Field(default=100, ge=1, le=65536, description="hidden units of block selectors")
    token_hidden: Whole = Field(default=100, ge=1, le=65536, description="hidden units of token selectors")
    decoder_channels: Whole = Field(ge=1, le=4096, description="width d of the decoders, half of DECODER_DIM")
    drop_path: Number = Field(default=0.0, ge=0, lt=1, description="stochastic depth of the last block, training only")
    efficiency: Efficiency = Efficiency()
    quirks: Quirks = Quirks()
    mean: tuple[Number, Number, Number] = IMAGENET_MEAN
    std: tuple[Number, Number, Number] = IMAGENET_STD

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.backbone.check_image_size(self.image_size)
        names = [task.task for task in self.tasks]
        if len(set(names)) != len(names):
            raise SpecError(f"tasks must differ, got {', '.join(names)}")
        if min(self.std) <= 0:
            raise SpecError(f"std must be positive, got {self.std}")
        return self

    @property
    def task_names(self) -> tuple[Task, ...]:
        """The tasks of this model, in order."""
        return tuple(task.task for task in self.tasks)

    @property
    def owners(self) -> tuple[str, ...]:
        """Whose selectors there are: `shared`, or every task."""
        return (SHARED,) if self.policy is Policy.SINGLE else tuple(task.value for task in self.task_names)

    @property
    def stage_tokens(self) -> tuple[int, int, int, int]:
        """Tokens L of an image in stages 0..3."""
        a, b, c, d = (side * side for side in self.backbone.stage_sides(self.image_size))
        return a, b, c, d

    def select(self, tasks: tuple[Task, ...] | None) -> tuple[Task, ...]:
        """The tasks asked for (None or empty: all), each checked to be in this model."""
        for task in tasks or ():
            if task not in self.task_names:
                raise TaskError(f"this model has no task {task.value!r}; it has {', '.join(self.task_names)}")
        return tuple(tasks) if tasks else self.task_names

    def switched(self, **changes: object) -> Self:
        """The same model with some fields changed, checked anew."""
        return type(self)(**{**dict(self), **changes})
