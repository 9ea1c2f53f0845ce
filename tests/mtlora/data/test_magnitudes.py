import numpy as np
import pytest

from mtlora.data.magnitudes import Magnitudes, label_fault, label_note
from mtlora.data.records import LabelArray
from mtlora.vocabulary.tasks import NORMALS_AXES, Task


def magnitudes(task: Task, *labels: LabelArray) -> Magnitudes:
    found = Magnitudes(task, NORMALS_AXES)
    for label in labels:
        found.add(label)
    return found


def depth(*values: int) -> LabelArray:
    return np.array([values], np.uint16)


def test_depth_says_how_much_is_known_and_how_much_lies_at_its_end() -> None:
    found = magnitudes(Task.DEPTH, depth(0, 1000, 10_000, 65_535), depth(2000, 10_000, 10_000, 0))
    assert found.line() == "depth: known in 62.50% of the pixels, 1 to 10 m; 60.00% of it at the largest value"
    assert found.problems() == [] and found.notes() == []


def test_depth_at_the_largest_value_of_16_bits_is_noted() -> None:
    assert "65535 mm or beyond, which count as unknown" in label_note(Task.DEPTH, depth(65_535, 1))
    assert label_note(Task.DEPTH, depth(65_534, 1)) == ""


def test_depth_of_another_unit_is_asked_about() -> None:
    assert "are they metres, not mm?" in magnitudes(Task.DEPTH, depth(1, 9)).notes()[0].cause
    (problem,) = magnitudes(Task.DEPTH, depth(65_535, 0)).problems()
    assert "Are these millimetres where metres are meant?" in problem.cause


@pytest.mark.parametrize("task", [Task.SALIENCY, Task.EDGE])
def test_masks_that_never_say_yes_teach_nothing(task: Task) -> None:
    (problem,) = magnitudes(task, np.array([[0, 1]], np.uint8)).problems()
    assert "nothing can be learned" in problem.cause and "0/1 masks" in problem.mend
    assert magnitudes(task, np.array([[0, 1]], np.uint8), np.array([[0, 255]], np.uint8)).problems() == []


def test_normals_must_be_about_one_long_and_face_the_camera() -> None:
    assert "mean length is not 1" in label_fault(Task.NORMALS, np.full((2, 2, 3), 255, np.uint8))
    facing, away = np.full((2, 2, 3), (128, 128, 0), np.uint8), np.full((2, 2, 3), (128, 128, 255), np.uint8)
    assert label_fault(Task.NORMALS, facing) == "" and magnitudes(Task.NORMALS, facing).notes() == []
    assert "point away" in magnitudes(Task.NORMALS, away).notes()[0].cause
    assert "say nothing" in magnitudes(Task.NORMALS, np.zeros((2, 2, 3), np.uint8)).problems()[0].cause
