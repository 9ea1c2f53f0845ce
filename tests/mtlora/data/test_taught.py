from pathlib import Path

import numpy as np
import pytest

from mtlora.data.cache import PhotoCache
from mtlora.data.taught import check_taught
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.spec import TaskSpec, palette_classes
from mtlora.vocabulary.tasks import Task

LEAVES = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("background", "leaf", "stem")))
ROOT = Path("data")


def cache(task: Task, *values: int) -> PhotoCache:
    """One label with these values."""
    channels = 3 if task is Task.NORMALS else 1
    label = np.tile(np.array(values, np.uint16 if task is Task.DEPTH else np.uint8), (1, channels, 1, 1))
    photos, known = np.zeros((1, 3, 2, 2), np.uint8), {task: np.array([True])}
    return PhotoCache(("a",), 2, photos, {task: label}, known, np.ones(1, np.float32))


def test_masks_of_0_and_255_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"only background and 255 \(ignore\), which covers 25.0%. Are these 0/255 masks"
    ):
        check_taught(cache(Task.SEMSEG, 0, 0, 0, 255), [LEAVES], ROOT)
    with pytest.raises(DataError, match=r"mtlora data import masks data OUT"):
        check_taught(cache(Task.SEMSEG, 0, 255), [LEAVES], ROOT)


def test_one_class_is_refused_and_an_absent_one_is_told() -> None:
    with pytest.raises(DataError, match="labels show only leaf"):
        check_taught(cache(Task.SEMSEG, 1, 1), [LEAVES], ROOT)
    assert check_taught(cache(Task.SEMSEG, 0, 1), [LEAVES], ROOT) == ("semseg labels never show stem",)
    assert check_taught(cache(Task.SEMSEG, 0, 1, 2), [LEAVES], ROOT) == ()


def test_values_that_are_no_class_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels hold 3, 9, but the set has classes 0..2"):
        check_taught(cache(Task.SEMSEG, 0, 1, 3, 9, 255), [LEAVES], ROOT)


@pytest.mark.parametrize("task", [Task.SALIENCY, Task.EDGE, Task.NORMALS, Task.DEPTH])
def test_labels_that_say_nothing_are_refused(task: Task) -> None:
    with pytest.raises(DataError, match=task.value):
        check_taught(cache(task, 0, 0), [TaskSpec.make(task)], ROOT)
    assert check_taught(cache(task, 0, 200), [TaskSpec.make(task)], ROOT) == ()
