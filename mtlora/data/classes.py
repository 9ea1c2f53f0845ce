"""The classes a dataset's labels are in, and how an adapter set with fewer classes reads them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlora.data.records import PhotoDataset
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import IGNORE_INDEX

BACKGROUND = "background"
_SHOWN = 6


def label_table(task: TaskSpec, known: Sequence[str]) -> NDArray[np.uint8]:
    """For each stored label value the class of an adapter set: uint8 [256].

    Where all of the set's classes are among the dataset's, or the other way round, labels go by name, and every other
    class of the dataset becomes background, or `ignore` in a set without background. Otherwise labels are the set's
    own indices.
    known: the dataset's names of the values 0, 1, …
    """
    table = np.arange(256, dtype=np.uint8)
    names = [c.name for c in task.classes]
    if not _go_by_name(names, known):
        return table
    rest = names.index(BACKGROUND) if BACKGROUND in names else IGNORE_INDEX
    table[:IGNORE_INDEX] = np.maximum(table[:IGNORE_INDEX], len(names))  # values without a name must not pass for one
    for index, name in enumerate(known):
        table[index] = names.index(name) if name in names else rest
    return table


def check_classes(task: TaskSpec, dataset: PhotoDataset) -> None:
    """`DataError` where the dataset names its classes, and the set has others: values would mean something else."""
    known, names = dataset.classes.get(task.task, ()), [c.name for c in task.classes]
    if task.task not in dataset.declared or _go_by_name(names, known):
        return
    strange = [name for name in names if name not in known]
    raise DataError(
        f"{dataset.declared[task.task]} of {dataset.root} does not name {task.task.value} classes of the set: "
        f"{', '.join(strange[:_SHOWN])}{', …' if len(strange) > _SHOWN else ''}; "
        f"it has {', '.join(known[:_SHOWN])}{', …' if len(known) > _SHOWN else ''}"
    )


def _go_by_name(names: Sequence[str], known: Sequence[str]) -> bool:
    return bool(names and known) and (set(names) <= set(known) or set(known) <= set(names))


def apply_table(target: Tensor, table: NDArray[np.uint8]) -> Tensor:
    """Class indices of a dataset to those of a set; int64 [...] in 0..255, and so the result."""
    return torch.from_numpy(table.astype(np.int64)).to(target.device)[target]


def source_rows(task: TaskSpec, source: TaskSpec) -> list[int] | None:
    """Which outputs of `source` are the outputs of `task`, by class name; None where some have no counterpart."""
    if task.outputs == source.outputs and not task.classes:
        return list(range(task.outputs))
    names = [c.name for c in source.classes]
    if any(c.name not in names for c in task.classes):
        return None
    return [names.index(c.name) for c in task.classes]
