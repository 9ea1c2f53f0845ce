"""Specs of backbones and adapter sets as values: frozen, validated where they are made, and JSON both ways.

Everything that decides a tensor's name or shape is here; below the builders there are only plain numbers.
Names follow the paper (TA-LoRA: task-agnostic, TS-LoRA: task-specific): MTLoRA, CVPR 2024, sections 3.2 to 3.4.
"""

import json
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from mtlora.vocabulary.errors import SpecError, TaskError
from mtlora.vocabulary.tasks import HUMAN_PARTS_CLASSES, NORMALS_AXES, TRAITS, VOC_CLASSES, Task, voc_color

PATCH_SIZE = 4
IN_CHANNELS = 3
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_CLASSES = 255  # class maps are uint8 and 255 is the ignore index
MAX_IMAGE_SIZE = 4096
MAX_STAGES = 4
MAX_RANK = 4096
_TOLD_PROBLEMS = 5
MAX_LINEAR_RANKS = 4 * 64 * 4 + 3  # every linear of the deepest encoder
_TELL_THEMSELVES = frozenset({"value_error", "missing", "extra_forbidden", "json_invalid"})

RESERVED_FIELDS: dict[str, Any] = {"adaptation": "lora", "task_base": "shared"}
"""Names in a set's spec, and in its tasks', that format version 2 keeps for pairs with magnitudes (DoRA), with what
they are today. No release reads other values yet."""

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Switch = Annotated[bool, Strict()]
"""Of fields of specs: `true` is no number, 1 no switch, "4" neither; 4 may stand where 4.0 may, but not vice versa."""


def _whole(value: Any) -> Any:
    """Of a literal, for which 1.0 and `true` are 1."""
    if type(value) is not int:
        raise SpecError(f"must be a whole number, got {json.dumps(value, default=str)[:60]}")
    return value


WHOLE = BeforeValidator(_whole)
"""For the annotation of a `Literal` of numbers."""

PerStage = tuple[Whole, Whole, Whole, Whole]
PerStageFloat = tuple[Number, Number, Number, Number]


def _sorted_ranks(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted(value.items(), key=lambda item: str(item[0])))
    if isinstance(value, tuple):
        return tuple(sorted(value))
    raise ValueError("must be an object of linears' names and ranks")


LinearRanks = Annotated[
    tuple[tuple[Annotated[str, Field(max_length=100)], Annotated[Whole, Field(ge=0, le=MAX_RANK)]], ...],
    BeforeValidator(_sorted_ranks),
    Field(max_length=MAX_LINEAR_RANKS),
    PlainSerializer(dict, return_type=dict[str, int]),
]
"""Ranks of single linears, by name without `backbone.` (`layers.2.blocks.1.mlp.fc1`); in JSON a mapping, sorted."""


class Spec(BaseModel):
    """Base of all specs: frozen, unknown keys refused, and every fault a `SpecError` in plain words."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise SpecError(_in_words(type(self).__name__, error)) from error

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse JSON strictly; `SpecError` names every field that is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(_in_words(cls.__name__, error)) from error

    def to_json(self) -> str:
        """Canonical JSON: every field, in the order of the class."""
        return self.model_dump_json()


def _without_reserved(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    found = [f"{name} {data[name]!r:.40}" for name, usual in RESERVED_FIELDS.items() if data.get(name, usual) != usual]
    if found:
        raise SpecError(
            f"{', '.join(found)}: reserved in format version 2, and this release does not read such sets yet; "
            f"it reads {', '.join(f'{name} {usual!r}' for name, usual in RESERVED_FIELDS.items())}"
        )
    return {name: value for name, value in data.items() if name not in RESERVED_FIELDS}


def _in_words(name: str, error: ValidationError) -> str:
    faults = [
        ": ".join(filter(None, [".".join(map(str, fault["loc"])), _fault_in_words(fault)]))
        for fault in error.errors(include_url=False)
    ]
    words = "; ".join(faults)  # of an own `SpecError`, which begins so already
    return words if words.startswith(f"{name}: ") else f"{name}: {words}"


def _fault_in_words(fault: ErrorDetails) -> str:
    words, given = fault["msg"].removeprefix("Value error, "), fault["input"]
    is_told = fault["type"] in _TELL_THEMSELVES or not isinstance(given, str | int | float)
    return words if is_told else f"{words}, got {json.dumps(given) if not isinstance(given, str) else repr(given):.60}"


class _Ranked(Spec):
    """What owns pairs: it has `ranks` by stage, and `linear_ranks` of single linears where those differ."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Specs that use nothing of format version 2 are written as before there was one."""
        written: dict[str, Any] = handler(self)
        if not written.get("linear_ranks"):
            written.pop("linear_ranks", None)
        return written


class SharedMode(StrEnum):
    """How the shared and the task outputs of a TS-LoRA linear are made (every published config: matrix)."""

    MATRIX = "matrix"  # y_t = F(x) + s_t B_t A_t x_t; shared has its own pair
    MATRIX_V2 = "matrixv2"  # y_t as matrix, plus the shared pair's output
    ADDITION = "addition"  # no shared pair; shared = F(x) + LayerNorm(sum of y_t)
    LORA_ONLY = "lora_only"  # no task pairs at all


class DecoderKind(StrEnum):
    """Decoders of the paper: from four feature maps of a task to its logits."""

    HRNET = "hrnet"
    SEGFORMER = "segformer"
    ASPP = "aspp"


class BackboneSpec(Spec):
    """Shape of a Swin encoder: all that is needed to build it, besides the input side."""

    name: str = Field(min_length=1, max_length=100, description="timm name, or a name of one's own")
    embed_dim: Whole = Field(ge=4, le=1024, description="channels of stage 0 (96 for Swin-T)")
    depths: tuple[Whole, Whole, Whole, Whole] = Field(description="blocks in stages 0..3")
    num_heads: tuple[Whole, Whole, Whole, Whole] = Field(description="attention heads in stages 0..3")
    window_size: Whole = Field(ge=2, le=64, description="side of an attention window, in tokens")
    mlp_ratio: Number = Field(default=4.0, gt=0, le=16)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.depths) < 1 or max(self.depths) > 64:
            raise SpecError(f"every stage needs 1 to 64 blocks, got depths {self.depths}")
        for stage, (dim, heads) in enumerate(zip(self.stage_dims, self.num_heads, strict=True)):
            if heads < 1 or dim % heads:
                raise SpecError(f"stage {stage}: {dim} channels cannot be split over {heads} heads")
        return self

    @property
    def stage_dims(self) -> PerStage:
        """Channels inside stages 0..3."""
        c = self.embed_dim
        return c, 2 * c, 4 * c, 8 * c

    @property
    def feature_dims(self) -> PerStage:
        """Channels of what the decoders get: after patch merging for stages 0..2, plain for stage 3."""
        c = self.embed_dim
        return 2 * c, 4 * c, 8 * c, 8 * c

    def stage_sides(self, image_size: int) -> PerStage:
        """Tokens along one side in stages 0..3 for an input of `image_size` px."""
        side = image_size // PATCH_SIZE
        return side, side // 2, side // 4, side // 8

    def feature_sides(self, image_size: int) -> PerStage:
        """Side of the four feature maps the decoders get: S/8, S/16, S/32, S/32."""
        _, s1, s2, s3 = self.stage_sides(image_size)
        return s1, s2, s3, s3

    def window_sides(self, image_size: int) -> PerStage:
        """Side of the attention windows in stages 0..3: the window size, or the stage's side where that is smaller."""
        s0, s1, s2, s3 = (min(self.window_size, side) for side in self.stage_sides(image_size))
        return s0, s1, s2, s3

    def check_image_size(self, image_size: int) -> None:
        """Raise `SpecError` unless windows tile every stage of an `image_size` px input."""
        if not 32 <= image_size <= MAX_IMAGE_SIZE or image_size % 32:
            raise SpecError(f"input side must be a multiple of 32 px from 32 to {MAX_IMAGE_SIZE}, got {image_size}")
        for stage, side in enumerate(self.stage_sides(image_size)):
            if side > self.window_size and side % self.window_size:
                raise SpecError(
                    f"input side {image_size} px gives {side} tokens in stage {stage}, which windows of "
                    f"{self.window_size} do not tile; multiples of {32 * self.window_size} px always work"
                )


class ClassSpec(Spec):
    """One class of a class map: its name and the colour it is shown in."""

    name: str = Field(min_length=1, max_length=100)
    color: tuple[Whole, Whole, Whole] = Field(description="red, green, blue, each 0..255")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.color) < 0 or max(self.color) > 255:
            raise SpecError(f"class {self.name!r}: colour parts must be 0..255, got {self.color}")
        return self


def palette_classes(names: tuple[str, ...]) -> tuple[ClassSpec, ...]:
    """Classes with the VOC palette's colours, in order."""
    return tuple(ClassSpec(name=name, color=voc_color(index)) for index, name in enumerate(names))


def familiar_classes(names: tuple[str, ...]) -> tuple[ClassSpec, ...]:
    """Classes of one's own: a name that VOC knows keeps its VOC colour, the others take palette colours still free."""
    known = {name: voc_color(VOC_CLASSES.index(name)) for name in names if name in VOC_CLASSES}
    free = (color for color in map(voc_color, range(256)) if color not in known.values())
    return tuple(ClassSpec(name=name, color=known.get(name) or next(free)) for name in names)


class TaskSpec(_Ranked):
    """One task of an adapter set: its outputs, its task-specific pairs, its decoder."""

    task: Task
    outputs: Whole = Field(ge=1, le=MAX_CLASSES, description="channels of the logits")
    classes: tuple[ClassSpec, ...] = Field(default=(), max_length=MAX_CLASSES)
    ranks: PerStage = Field(description="rank of the TS-LoRA pairs in stages 0..3; 0: none")
    scaling: PerStageFloat = Field(description="multiplier of B A x in stages 0..3; not alpha, not alpha / rank")
    decoder: DecoderKind = DecoderKind.HRNET
    axes: str = Field(default="", max_length=200, description="normals only: what x, y, z mean")
    linear_ranks: LinearRanks = Field(default=(), description="ranks of single pairs that differ from their stage's")

    _reserved = model_validator(mode="before")(_without_reserved)

    @model_validator(mode="after")
    def _check(self) -> Self:
        traits = TRAITS[self.task]
        if traits.outputs is not None and self.outputs != traits.outputs:
            raise SpecError(f"task {self.task} has {traits.outputs} outputs, got {self.outputs}")
        if traits.outputs is not None and self.classes:
            raise SpecError(f"task {self.task} has no classes, got {len(self.classes)}")
        if traits.outputs is None and len(self.classes) != self.outputs:
            raise SpecError(f"task {self.task} has {self.outputs} outputs but {len(self.classes)} classes")
        _check_ranks(f"task {self.task}", self.ranks)
        return self

    @classmethod
    def make(
        cls,
        task: Task,
        *,
        classes: tuple[ClassSpec, ...] | None = None,
        ranks: PerStage = (4, 4, 4, 4),
        scaling: PerStageFloat = (4.0, 4.0, 4.0, 4.0),
        decoder: DecoderKind = DecoderKind.HRNET,
    ) -> Self:
        """A task with the field's defaults: VOC classes, PASCAL human parts, the data's axes of normals."""
        if classes is None:
            classes = {
                Task.SEMSEG: palette_classes(VOC_CLASSES),
                Task.HUMAN_PARTS: palette_classes(HUMAN_PARTS_CLASSES),
            }.get(task, ())
        return cls(
            task=task,
            outputs=TRAITS[task].outputs or len(classes),
            classes=classes,
            ranks=ranks,
            scaling=scaling,
            decoder=decoder,
            axes=NORMALS_AXES if task is Task.NORMALS else "",
        )


class AdapterSpec(_Ranked):
    """Everything that decides which tensors an adapter set holds, their shapes, and what is computed with them."""

    backbone: BackboneSpec
    image_size: Whole = Field(description="input side S in pixels; photos are resized to S x S")
    tasks: tuple[TaskSpec, ...] = Field(min_length=1, max_length=len(Task))
    mode: SharedMode = SharedMode.MATRIX
    ranks: PerStage = Field(description="rank of the TA-LoRA pairs in stages 0..3; 0 switches a stage's pairs off")
    scaling: PerStageFloat = (4.0, 4.0, 4.0, 4.0)
    dropout: PerStageFloat = (0.05, 0.05, 0.05, 0.05)
    learned_scaling: Switch = Field(default=False, description="scaling of the TA pairs is a trained tensor")
    learned_task_scaling: Switch = Field(default=False, description="scaling of the TS pairs is a trained tensor")
    adapt_qkv: Switch = True
    adapt_proj: Switch = True
    adapt_fc1: Switch = True
    adapt_fc2: Switch = True
    adapt_reduction: Switch = Field(default=False, description="MTLoRA+: patch merging is frozen and gets a TA pair")
    intermediate_specialization: Switch = Field(default=False, description="TS pairs in every block, not only the last")
    train_patch_embed: Switch = True
    train_layer_norm: Switch = True
    train_position_bias: Switch = True
    train_reduction: Switch = True
    decoder_channels: PerStage = (18, 36, 72, 144)
    segformer_channels: Whole = Field(default=256, ge=1, le=4096)
    mean: tuple[Number, Number, Number] = IMAGENET_MEAN
    std: tuple[Number, Number, Number] = IMAGENET_STD
    antialias: Switch = Field(default=False, description="resize with antialiasing; published models: without")
    linear_ranks: LinearRanks = Field(
        default=(), description="ranks of single shared pairs that differ from their stage's"
    )

    _reserved = model_validator(mode="before")(_without_reserved)

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.backbone.check_image_size(self.image_size)
        names = [t.task for t in self.tasks]
        if len(set(names)) != len(names):
            raise SpecError(f"tasks must differ, got {', '.join(names)}")
        _check_ranks("shared", self.ranks)
        if min(self.dropout) < 0 or max(self.dropout) >= 1:
            raise SpecError(f"dropout must be in [0, 1), got {self.dropout}")
        if min(self.std) <= 0:
            raise SpecError(f"std must be positive, got {self.std}")
        if min(self.decoder_channels) < 1 or max(self.decoder_channels) > 4096:
            raise SpecError(f"decoder channels must be 1 to 4096, got {self.decoder_channels}")
        if self.has_linear_ranks:
            # the rule of which linear has which pair is written in terms of this class
            from mtlora.vocabulary.adapted_linears import rank_problems

            if problems := rank_problems(self):
                raise SpecError("; ".join(problems[:_TOLD_PROBLEMS]))
        return self

    @property
    def has_linear_ranks(self) -> bool:
        """Whether single linears have ranks of their own, which takes format version 2."""
        return bool(self.linear_ranks) or any(task.linear_ranks for task in self.tasks)

    @property
    def task_names(self) -> tuple[Task, ...]:
        """The tasks of this set, in order."""
        return tuple(t.task for t in self.tasks)

    def task(self, task: Task) -> TaskSpec:
        """The description of one task; `TaskError` names the tasks this set has."""
        for candidate in self.tasks:
            if candidate.task is task:
                return candidate
        raise TaskError(f"this adapter set has no task {task.value!r}; it has {', '.join(self.task_names)}")

    def select(self, tasks: tuple[Task, ...] | None) -> tuple[Task, ...]:
        """The tasks asked for (None or empty: all), each checked to be in this set."""
        return tuple(self.task(task).task for task in tasks) if tasks else self.task_names


def _check_ranks(owner: str, ranks: PerStage) -> None:
    if min(ranks) < 0 or max(ranks) > MAX_RANK:
        raise SpecError(f"{owner}: ranks must be 0 to {MAX_RANK}, got {ranks}")
