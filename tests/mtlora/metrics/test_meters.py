import numpy as np
import pytest

from mtlora.metrics.meters import build_meter
from mtlora.vocabulary.spec import TaskSpec, palette_classes
from mtlora.vocabulary.tasks import Task

LEAVES = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("background", "leaf", "stem")))


@pytest.mark.parametrize(
    ("predicted", "labelled", "told"),
    [
        ([0, 0, 0], [0, 1, 2], "predicts only background; leaf, stem in the labels, found nowhere"),
        ([0, 0, 1], [0, 0, 255], "predicts only background, and labels show nothing else: these scores say nothing"),
        ([2, 2, 2], [0, 1, 2], "predicts only stem; background, leaf in the labels, found nowhere"),
        ([0, 0, 1], [0, 1, 2], ""),
        ([0, 0, 0], [255, 255, 255], ""),
    ],
)
def test_one_class_all_over_is_said(predicted: list[int], labelled: list[int], told: str) -> None:
    meter = build_meter(LEAVES)
    meter.update(np.array([predicted], np.uint8), np.array([[labelled]], np.uint8))
    assert meter.remark() == told


def test_saliency_that_is_never_found_is_said() -> None:
    meter = build_meter(TaskSpec.make(Task.SALIENCY))
    label = np.array([[[255, 0]]], np.uint8)
    meter.update(np.array([[0.2, 0.1]], np.float32), label)
    assert meter.remark() == "nothing that is salient is found at 0.5"
    meter.update(np.array([[0.9, 0.1]], np.float32), label)
    assert meter.remark() == ""


@pytest.mark.parametrize("task", [Task.NORMALS, Task.EDGE, Task.DEPTH])
def test_other_numbers_hide_nothing(task: Task) -> None:
    assert build_meter(TaskSpec.make(task)).remark() == ""
