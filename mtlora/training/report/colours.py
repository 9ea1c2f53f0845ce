"""Maps and labels as colours, for pictures that people compare."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlora.data.read import MM_PER_M
from mtlora.data.records import LabelArray
from mtlora.maps.postprocessing import Map
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

UNLABELLED = (255, 255, 255)
"""Colour of what has no label."""

Colours = NDArray[np.uint8]


def map_colours(task: TaskSpec, found: Map) -> Colours:
    """A predicted map, see `Map`, as uint8 [H, W, 3]."""
    if task.classes:
        colours: Colours = np.take(_palette(task), found.astype(np.intp), axis=0)
        return colours
    if task.task is Task.NORMALS:
        return _bytes((found + 1) / 2)
    return _grey(found / max(float(found.max()), 1e-6) if task.task is Task.DEPTH else found)


def label_colours(task: TaskSpec, label: LabelArray) -> Colours:
    """A stored label in the set's classes, [C, H, W] as `read_label` gives it, as uint8 [H, W, 3]."""
    if task.classes:
        colours: Colours = np.take(_palette(task), label[0].astype(np.intp), axis=0)
        return colours
    if task.task is Task.NORMALS:
        colours = np.ascontiguousarray(label.transpose(1, 2, 0)).astype(np.uint8)
        colours[(label == 0).all(axis=0)] = UNLABELLED
        return colours
    if task.task is Task.DEPTH:
        metres = label[0].astype(np.float32) / MM_PER_M
        colours = _grey(metres / max(float(metres.max()), 1e-6))
        colours[label[0] == 0] = UNLABELLED
        return colours
    return _grey(label[0].astype(np.float32) / 255)


def _palette(task: TaskSpec) -> Colours:
    palette = np.full((IGNORE_INDEX + 1, 3), UNLABELLED, dtype=np.uint8)
    palette[: len(task.classes)] = [c.color for c in task.classes]
    return palette


def _grey(values: NDArray[Any]) -> Colours:
    return np.repeat(_bytes(values)[..., None], 3, axis=-1)


def _bytes(values: NDArray[Any]) -> Colours:
    scaled: Colours = (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    return scaled
