"""Whether decoded labels can teach a set's tasks anything; looked at before the first step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlora.data.cache import PhotoCache
from mtlora.data.classes import label_table
from mtlora.data.findings import TO_MASKS, Finding, in_place
from mtlora.data.histogram import listed
from mtlora.data.records import LabelArray
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

_POSITIVE = 128
_VALUES = IGNORE_INDEX + 1


def check_taught(cache: PhotoCache, tasks: Sequence[TaskSpec], root: Path) -> tuple[str, ...]:
    """Look at all labels; `DataError` names tasks of which nothing can be learned, and values that are no class.

    root:    the dataset, for commands that mend it
    returns: in words, classes of the set that no label shows; a set does not learn them, but may learn the others
    """
    problems: list[Finding] = []
    absent: list[str] = []
    for task in tasks:
        labels = cache.labels[task.task]
        if not task.classes:
            problems += [_nothing(task.task)] if not _says_anything(task.task, labels) else []
            continue
        stored = _pixels(labels)
        table = label_table(task, cache.classes.get(task.task, ()))
        names = [c.name for c in task.classes]
        found = {int(table[value]) for value in np.flatnonzero(stored) if table[value] < len(names)}
        strays = [int(v) for v in np.flatnonzero(stored) if len(names) <= table[v] < IGNORE_INDEX]
        if strays:
            problems.append(_no_classes(task, strays))
        elif len(found) < 2:
            problems.append(_one_class([names[index] for index in found], task, stored))
        elif missing := [name for index, name in enumerate(names) if index not in found]:
            ignored = stored[IGNORE_INDEX] / stored.sum()
            beside = f"; 255 (ignore) covers {ignored:.1%}" if ignored else ""
            absent.append(f"{task.task} labels never show {listed(missing)}{beside}")
    if problems:
        lines = [finding.line() for finding in in_place(problems, root)]
        raise DataError("these labels cannot be learned from", lines)
    return tuple(absent)


def _pixels(labels: LabelArray) -> NDArray[np.int64]:
    """Pixels of each value: int64 [256]."""
    counts = np.zeros(_VALUES, np.int64)
    for label in labels:
        counts += np.bincount(label.ravel(), minlength=_VALUES)
    return counts


def _says_anything(task: Task, labels: LabelArray) -> bool:
    least = _POSITIVE if task in (Task.SALIENCY, Task.EDGE) else 1
    return any(bool((label >= least).any()) for label in labels)


def _nothing(task: Task) -> Finding:
    if task in (Task.SALIENCY, Task.EDGE):
        cause = f"{task}: no pixel of any label is {_POSITIVE} or more; 255 says yes, so 0/1 masks say nothing"
        return Finding(cause, mend=TO_MASKS)
    return Finding(f"{task}: no label says anything in any pixel")


def _no_classes(task: TaskSpec, strays: Sequence[int]) -> Finding:
    values = listed([str(value) for value in strays])
    cause = f"{task.task}: labels hold {values}, but the set has classes 0..{len(task.classes) - 1}"
    return Finding(cause, mend=f"Name all classes, in classes.txt or with --semseg-classes, or {TO_MASKS}")


def _one_class(found: Sequence[str], task: TaskSpec, stored: NDArray[np.int64]) -> Finding:
    only = f"only {found[0]}" if found else "no class of the set"
    ignored = stored[IGNORE_INDEX] / max(1, stored.sum())
    if not ignored:
        return Finding(f"{task.task}: labels show {only}")
    words = f"{task.task}: labels show {only} and 255 (ignore), which covers {ignored:.1%}"
    binary = not stored[1:IGNORE_INDEX].any()
    return Finding(f"{words}. Are these 0/255 masks?", mend=TO_MASKS) if binary else Finding(words)
