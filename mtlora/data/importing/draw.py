"""Label maps: which class has which number, which shape lies over which, and labels as their photo is shown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlora.annotations.raster import Patch
from mtlora.data.importing.photos import SIDEWAYS
from mtlora.data.importing.shapes import (
    BACKGROUND,
    Export,
    LabelledPhoto,
    Overlap,
    Shape,
    is_background,
    is_ignore,
)
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import HUMAN_PARTS_CLASSES, IGNORE_INDEX, Task

MOST_CLASSES = 255

_Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Numbering:
    """Names of a task's classes 0, 1, …, and the value of each name of an export; 255 = ignore."""

    names: tuple[str, ...]
    values: Mapping[str, int]

    @property
    def unlisted(self) -> list[str]:
        """Names of the export that became background because the user's list has not got them."""
        return [name for name, value in self.values.items() if value == 0 and name not in self.names]


def numbering(export: Export, task: Task, wanted: Sequence[str] = ()) -> Numbering:
    """How the classes of an export are numbered for a task.

    wanted: names in the user's order; those of the export that are not among them become background
    `DataError` where there are no classes, too many, or one that is wanted twice.
    """
    real = [name for name in export.classes if not is_background(name) and not is_ignore(name)]
    has_values = export.overlap is Overlap.NONE
    if wanted:
        names = list(wanted)
        if not is_background(names[0]) and not (has_values and names == export.classes):
            names.insert(0, BACKGROUND)
    elif has_values and export.classes:
        names = list(export.classes)
    elif task is Task.HUMAN_PARTS and set(real) <= set(HUMAN_PARTS_CLASSES):
        names = list(HUMAN_PARTS_CLASSES)
    else:
        names = [BACKGROUND, *real]
    if is_background(names[0]):
        names[0] = BACKGROUND
    if len(set(names)) < len(names):
        raise DataError(f"a class is listed twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    if not 2 <= len(names) <= MOST_CLASSES:
        raise DataError(f"{len(names)} classes with the background; 2 to {MOST_CLASSES} can be told apart in a label")
    values = {name: names.index(name) if name in names else 0 for name in real}
    values |= {name: IGNORE_INDEX if is_ignore(name) else 0 for name in export.classes if name not in values}
    return Numbering(tuple(names), values)


def draw(photo: LabelledPhoto, export: Export, values: Mapping[str, int]) -> _Labels:
    """The label map of a photo as it is shown, uint8 [H, W]; `DataError` where labels do not fit the photo.

    values: of each class of the export, and of labels that mean background or ignore
    """
    if photo.ready is not None:
        found = photo.ready()
        if not export.soft:
            lookup = np.full(256, IGNORE_INDEX, np.uint8)
            for index, name in enumerate(export.classes):
                lookup[index] = values[name]
            found = lookup[found]
        return as_shown(found, photo)
    width, height = (photo.width, photo.height) if photo.width and photo.height else photo.photo.size
    _check_size(width, height, photo)
    labels = np.zeros((height, width), np.uint8)
    for shape, patches in _stacked(photo.shapes, export.overlap, height, width):
        value = IGNORE_INDEX if is_ignore(shape.name) else values.get(shape.name, 0)
        for patch in patches:
            patch.draw(labels, value)
    return as_shown(labels, photo)


def as_shown(labels: _Labels, photo: LabelledPhoto) -> _Labels:
    """Labels of a photo, turned as the photo is where they have the size of its stored rows and columns."""
    height, width = labels.shape
    _check_size(width, height, photo)
    if (width, height) == photo.photo.size:
        return labels
    return np.ascontiguousarray(turned(labels, photo.photo.orientation))


def turned(labels: _Labels, orientation: int) -> _Labels:
    """An array [H, W] as stored to how it is shown, by EXIF's orientation 1 to 8."""
    if orientation in SIDEWAYS:
        labels = labels.T
        orientation = {5: 1, 6: 2, 7: 3, 8: 4}[orientation]
    across, down = orientation in {2, 3}, orientation in {3, 4}
    return labels[:: -1 if down else 1, :: -1 if across else 1]


def _check_size(width: int, height: int, photo: LabelledPhoto) -> None:
    if (width, height) not in {photo.photo.size, photo.photo.stored_size}:
        shown = "{} x {}".format(*photo.photo.size)
        raise DataError(f"{photo.photo.name}: the labels are for {width} x {height} pixels, the photo has {shown}")


def _stacked(shapes: Sequence[Shape], overlap: Overlap, height: int, width: int) -> Iterator[tuple[Shape, list[Patch]]]:
    """Shapes and their pixels, the lowest first."""
    if overlap is Overlap.SMALLER:
        sizes = [sum(int(patch.pixels.sum()) for patch in shape.area.patches(height, width)) for shape in shapes]
        order = [shape for shape, _ in sorted(zip(shapes, sizes, strict=True), key=lambda p: (p[0].layer, -p[1]))]
    else:
        order = sorted(shapes, key=lambda shape: shape.layer)  # stable: on one layer as the export has them
    # drawn twice rather than kept: a thousand masks of a large photo would be gigabytes
    return ((shape, shape.area.patches(height, width)) for shape in order)
