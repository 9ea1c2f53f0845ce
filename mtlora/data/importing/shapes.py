"""The common form of every export: photos, and of each the shapes that were drawn, or a ready map of classes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mtlora.annotations.brush_runs import read_brush_runs
from mtlora.annotations.raster import Patch, polygon_mask
from mtlora.annotations.run_lengths import column_mask, decompress
from mtlora.data.importing.photos import FoundPhoto
from mtlora.vocabulary.errors import DataError

BACKGROUND = "background"
BACKGROUND_NAMES = frozenset({BACKGROUND, "_background_", "__background__"})
IGNORE_NAMES = frozenset({"__ignore__", "_ignore_", "ignore", "void"})
"""Names of labels, in small letters, that mean class 0, and that no class is known."""


class Overlap(StrEnum):
    """Which of two shapes that overlap is seen."""

    LATER = "what was drawn later"
    LAYERS = "the higher layer (z-order), on one layer what was drawn later"
    SMALLER = "the smaller shape"
    NONE = "nothing overlaps: one value a pixel"


class Area(Protocol):
    """Pixels of a shape, in one of the ways that tools write them."""

    def patches(self, height: int, width: int) -> list[Patch]:
        """The pixels on a photo of this size, their union; `DataError` where they are written for another."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """What lies within at least one of the rings; each float64 [N, 2], x and y in pixels."""

    rings: tuple[NDArray[np.float64], ...]

    def patches(self, height: int, width: int) -> list[Patch]:
        """See `Area`."""
        return [polygon_mask(ring, height, width) for ring in self.rings]


@dataclass(frozen=True, slots=True)
class ColumnRuns:
    """COCO's run lengths, packed as text or plain."""

    counts: str | list[int]
    height: int
    width: int

    def patches(self, height: int, width: int) -> list[Patch]:
        """See `Area`."""
        if (self.height, self.width) != (height, width):
            raise DataError(f"run lengths of {self.width} x {self.height} pixels, the image has {width} x {height}")
        counts = decompress(self.counts) if isinstance(self.counts, str) else self.counts
        return [Patch(0, 0, column_mask(counts, height, width))]


@dataclass(frozen=True, slots=True)
class BrushRuns:
    """Label Studio's brush format."""

    values: list[int]

    def patches(self, height: int, width: int) -> list[Patch]:
        """See `Area`."""
        return [Patch(0, 0, read_brush_runs(self.values, height, width))]


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels within a box; `fill` gives them, bool [height, width]."""

    left: int
    top: int
    width: int
    height: int
    fill: Callable[[], NDArray[np.bool_]]

    def patches(self, height: int, width: int) -> list[Patch]:
        """See `Area`."""
        inside = 0 <= self.left <= self.left + self.width <= width and 0 <= self.top <= self.top + self.height <= height
        if not inside or not self.width or not self.height:
            raise DataError(
                f"a mask of {self.width} x {self.height} pixels at {self.left}, {self.top} "
                f"does not lie within the image of {width} x {height}"
            )
        return [Patch(self.left, self.top, self.fill())]


@dataclass(frozen=True, slots=True)
class Shape:
    """One labelled area. `layer`: higher ones lie over lower ones, where the format has layers."""

    name: str
    area: Area
    layer: int = 0


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """A photo with its labels.

    width, height: the size that the labels are for; 0: the upright photo's
    shapes: in the order of the export
    ready:  in place of shapes: reads uint8 [H, W], indices of the export's classes, 255 = ignore
    split:  which split the export puts it in; empty: it does not say
    """

    photo: FoundPhoto
    width: int = 0
    height: int = 0
    shapes: tuple[Shape, ...] = ()
    ready: Callable[[], NDArray[np.uint8]] | None = None
    split: str = ""


@dataclass(slots=True)
class Export:
    """All of an export.

    classes:  names; of shapes without the background, of ready maps the names of the values 0, 1, …
    problems: what is wrong, in words, each of one photo or label that is not among `photos`
    left_out: what cannot be drawn and was left out, by kind
    notes:    what else the user should know
    soft:     ready maps are 255 * p, not classes
    """

    format: str
    overlap: Overlap
    classes: list[str] = field(default_factory=list)
    photos: list[LabelledPhoto] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    soft: bool = False

    def add_class(self, name: str) -> None:
        """Remember a name, once."""
        if name not in self.classes:
            self.classes.append(name)

    def sort_classes(self) -> None:
        """By name: for formats whose labels have no order."""
        self.classes.sort()


def is_background(name: str) -> bool:
    """Whether a label's name means class 0."""
    return name.lower() in BACKGROUND_NAMES


def is_ignore(name: str) -> bool:
    """Whether a label's name says that nothing is known."""
    return name.lower() in IGNORE_NAMES


def class_name(value: object, where: str) -> str:
    """A name fit for a line of `classes.txt`; `DataError` where it is none."""
    text = " ".join(str(value).split()) if isinstance(value, str | int) else ""
    if not text or len(text) > 100 or not text.isprintable():
        raise DataError(f"{where}: a class needs a name of 1 to 100 printable characters, got {str(value)[:60]!r}")
    return text
