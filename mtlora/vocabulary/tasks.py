"""The dense tasks, and what never changes about them.

How many classes a task has, and their names and colours, belong to an adapter set (`mtlora.vocabulary.spec`);
here is only what holds for every set: names, how logits become maps, and the field's conventions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from mtlora.vocabulary.errors import TaskError

IGNORE_INDEX = 255
"""Label value that no loss and no metric counts; never appears in an output."""


class Task(StrEnum):
    """A dense prediction task. Values are the names used in files, URLs and on the command line."""

    SEMSEG = "semseg"
    HUMAN_PARTS = "human_parts"
    SALIENCY = "saliency"
    NORMALS = "normals"
    EDGE = "edge"
    DEPTH = "depth"


class Decode(StrEnum):
    """How the logits of a task become its map."""

    ARGMAX = "argmax"  # float [K, H, W] -> uint8 [H, W], class index
    SIGMOID = "sigmoid"  # float [1, H, W] -> float32 [H, W] in 0..1
    UNIT_VECTOR = "unit_vector"  # float [3, H, W] -> float32 [H, W, 3], unit length
    IDENTITY = "identity"  # float [1, H, W] -> float32 [H, W], as is


@dataclass(frozen=True, slots=True)
class TaskTraits:
    """What is fixed about a task: decoding, number of outputs where fixed, loss weight."""

    decode: Decode
    outputs: int | None  # None: as many as the adapter set has classes
    reference_key: str  # the published implementation's name
    loss_weight: float  # published weight in the sum of losses
    aliases: tuple[str, ...] = ()


TRAITS: MappingProxyType[Task, TaskTraits] = MappingProxyType(
    {
        Task.SEMSEG: TaskTraits(Decode.ARGMAX, None, "semseg", 1.0),
        Task.HUMAN_PARTS: TaskTraits(Decode.ARGMAX, None, "human_parts", 2.0, ("parts",)),
        Task.SALIENCY: TaskTraits(Decode.SIGMOID, 1, "sal", 5.0, ("sal",)),
        Task.NORMALS: TaskTraits(Decode.UNIT_VECTOR, 3, "normals", 10.0),
        Task.EDGE: TaskTraits(Decode.SIGMOID, 1, "edge", 50.0),
        Task.DEPTH: TaskTraits(Decode.IDENTITY, 1, "depth", 1.0),
    }
)

NORMALS_AXES = "camera axes, right-handed: x right, y down, z forward; visible surfaces have z < 0"
"""Axes of the bundled sets' normals; a set says its own in its spec."""

_BY_NAME = {name: t for t, traits in TRAITS.items() for name in (t.value, *traits.aliases)}
_BY_REFERENCE_KEY = {traits.reference_key: t for t, traits in TRAITS.items()}


def parse_task(name: str) -> Task:
    """Task of a name or alias (`parts`, `sal`), whatever the case; `TaskError` lists the known ones."""
    try:
        return _BY_NAME[name.strip().lower()]
    except KeyError:
        raise TaskError(f"unknown task {name!r}; known tasks: {', '.join(_BY_NAME)}") from None


def parse_tasks(names: str | Iterable[str]) -> tuple[Task, ...]:
    """Tasks of a comma list or of names, in the order given, doubles dropped."""
    parts = names.split(",") if isinstance(names, str) else list(names)
    return tuple(dict.fromkeys(parse_task(part) for part in parts if part.strip()))


def task_of_reference_key(key: str) -> Task:
    """Task of the published implementation's key (`sal` is saliency)."""
    try:
        return _BY_REFERENCE_KEY[key]
    except KeyError:
        raise TaskError(f"unknown task {key!r}; the published names are {', '.join(_BY_REFERENCE_KEY)}") from None


VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
HUMAN_PARTS_CLASSES = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")


NYU_CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip


def voc_color(index: int) -> tuple[int, int, int]:
    """Colour of class `index` (0..255) in the PASCAL VOC palette: red, green, blue, each 0..255.

    The bits of the index are dealt to the three channels in turn, most significant bit of the colour first.
    """
    red = green = blue = 0
    for bit in range(8):
        red |= ((index >> 0) & 1) << (7 - bit)
        green |= ((index >> 1) & 1) << (7 - bit)
        blue |= ((index >> 2) & 1) << (7 - bit)
        index >>= 3
    return red, green, blue
