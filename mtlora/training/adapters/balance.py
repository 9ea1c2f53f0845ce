"""The balance of rare classes: which photos are drawn more often, and how much a class counts in a loss."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtlora.data.cache import PhotoCache
from mtlora.data.classes import apply_table, label_table
from mtlora.data.sampling import class_pixels, class_weights, repeat_factors
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

_STORED_CLASSES = IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class Balance:
    """How a dataset is drawn from and read.

    photos:  float64 [N], how often a photo is drawn, relatively; 0 for photos without a label of any task
    classes: task -> float32 [K], weights of the classes in the loss
    tables:  task -> uint8 [256], from stored label values to the set's classes
    """

    photos: NDArray[np.float64]
    classes: dict[Task, Tensor]
    tables: dict[Task, NDArray[np.uint8]]

    def target(self, task: Task, target: Tensor) -> Tensor:
        """A target in the set's classes; see `Batch.targets`."""
        return apply_table(target, self.tables[task]) if task in self.tables else target


def balance(cache: PhotoCache, spec: AdapterSpec, exponent: float) -> Balance:
    """Look at every label once; photos of rare semseg classes are drawn up to six times as often.

    exponent: of the class weights (see `class_weights`); 0 leaves all classes at 1
    """
    weights = np.ones(len(cache))
    classes: dict[Task, Tensor] = {}
    tables: dict[Task, NDArray[np.uint8]] = {}
    labelled = np.zeros(len(cache), dtype=bool)
    for task in spec.tasks:
        labelled |= cache.known[task.task]
        if not task.classes:
            continue
        table = tables[task.task] = label_table(task, cache.classes.get(task.task, ()))
        stored = class_pixels(cache, task.task, _STORED_CLASSES)
        pixels = np.zeros((len(cache), task.outputs), dtype=np.int64)
        for value in np.flatnonzero(stored.any(axis=0)):
            if table[value] == IGNORE_INDEX:
                continue
            if table[value] >= task.outputs:
                raise TrainingError(f"{task.task} labels hold class {value}, the set has {task.outputs} classes")
            pixels[:, table[value]] += stored[:, value]
        classes[task.task] = class_weights(pixels, exponent)
        if task.task is Task.SEMSEG:
            weights = repeat_factors(pixels)
    return Balance(np.where(labelled, weights, 0.0), classes, tables)
