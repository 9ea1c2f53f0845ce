"""The classes a dataset's labels are in, and how an adapter set with fewer classes reads them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import IGNORE_INDEX

BACKGROUND = "background"


def label_table(task: TaskSpec, known: Sequence[str]) -> NDArray[np.uint8]:
    """For each stored label value the class of an adapter set: uint8 [256].

    Where all of the set's classes are among the dataset's, labels go by name, and every other class becomes
    background, or `ignore` in a set without background. Otherwise labels are the set's own indices.
    known: the dataset's names of the values 0, 1, …
    """
    table = np.arange(256, dtype=np.uint8)
    names = [c.name for c in task.classes]
    if not names or not set(names) <= set(known):
        return table
    rest = names.index(BACKGROUND) if BACKGROUND in names else IGNORE_INDEX
    for index, name in enumerate(known):
        table[index] = names.index(name) if name in names else rest
    return table


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
