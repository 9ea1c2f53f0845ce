import numpy as np

from mtlora.training.report.colours import UNLABELLED, label_colours, map_colours
from mtlora.vocabulary.spec import TaskSpec, palette_classes
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

RANKS = (2, 2, 2, 2)


def test_classes_have_their_colours_in_truth_and_prediction() -> None:
    task = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("a", "b")), ranks=RANKS)
    values = np.array([[0, 1, IGNORE_INDEX]], dtype=np.uint8)
    truth = label_colours(task, values[None])
    assert truth.tolist() == [[list(task.classes[0].color), list(task.classes[1].color), list(UNLABELLED)]]
    assert (map_colours(task, values[:, :2]) == truth[:, :2]).all()


def test_a_perfect_prediction_of_normals_looks_like_its_label() -> None:
    task = TaskSpec.make(Task.NORMALS, ranks=RANKS)
    stored = np.array([[[128, 128, 0], [0, 0, 0]]], dtype=np.uint8)
    truth = label_colours(task, stored.transpose(2, 0, 1))
    assert truth[0, 1].tolist() == list(UNLABELLED)
    found = map_colours(task, np.array([[[0.0, 0.0, -1.0]]], dtype=np.float32))
    assert np.abs(found[0, 0].astype(int) - truth[0, 0]).max() <= 1


def test_what_is_salient_is_bright() -> None:
    task = TaskSpec.make(Task.SALIENCY, ranks=RANKS)
    assert label_colours(task, np.array([[[0, 255]]], dtype=np.uint8)).tolist() == [[[0] * 3, [255] * 3]]
    assert map_colours(task, np.array([[0.0, 1.0]], dtype=np.float32)).tolist() == [[[0] * 3, [255] * 3]]


def test_depth_is_brighter_the_farther_and_white_where_unknown() -> None:
    task = TaskSpec.make(Task.DEPTH, ranks=RANKS)
    label = label_colours(task, np.array([[[0, 2000, 4000]]], dtype=np.uint16))
    assert label[0, 0].tolist() == list(UNLABELLED) and label[0, 1, 0] == 128 and label[0, 2, 0] == 255
    assert map_colours(task, np.array([[2.0, 4.0]], dtype=np.float32))[0, :, 0].tolist() == [128, 255]
