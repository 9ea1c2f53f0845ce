import math

import numpy as np
import pytest

from mtlora.metrics.segmentation import ConfusionMatrix, class_iou, mean_iou, pixel_accuracy, reference_mean_iou
from mtlora.vocabulary.errors import DataError


def matrix(prediction: list[int], label: list[int], classes: int = 3) -> ConfusionMatrix:
    confusion = ConfusionMatrix(classes)
    confusion.update(np.array([prediction], dtype=np.uint8), np.array([label], dtype=np.uint8))
    return confusion


def test_by_hand() -> None:
    """Class 0: 2 hits, union 3. Class 1: 1 hit, union 2. Class 2 never occurs."""
    counts = matrix([0, 0, 0, 1, 2], [0, 0, 1, 1, 255]).counts
    np.testing.assert_allclose(class_iou(counts), [2 / 3, 1 / 2, math.nan])
    assert mean_iou(counts) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert reference_mean_iou(counts) == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert pixel_accuracy(counts) == pytest.approx(3 / 4)


def test_a_class_only_predicted_hurts_the_others_alone() -> None:
    counts = matrix([0, 2], [0, 0]).counts
    assert class_iou(counts)[2] == 0
    assert mean_iou(counts) == pytest.approx(0.5)


def test_counts_are_of_the_whole_set() -> None:
    """One image perfect with 1 pixel, one wrong with 3: set-wide IoU, not the mean of the images'."""
    confusion = matrix([1], [1])
    confusion.update(np.zeros((1, 3), np.uint8), np.ones((1, 3), np.uint8))
    assert mean_iou(confusion.counts) == pytest.approx(1 / 4)
    assert confusion.labelled_pixels == 4


def test_nothing_labelled_is_not_a_number() -> None:
    counts = matrix([0, 1], [255, 255]).counts
    assert math.isnan(mean_iou(counts))
    assert math.isnan(pixel_accuracy(counts))


def test_sizes_and_classes_are_checked() -> None:
    with pytest.raises(DataError, match=r"\(1, 2\) and label \(1, 3\)"):
        matrix([0, 0], [0, 0, 0])
    with pytest.raises(DataError, match="class 9 in a map of 3 classes"):
        matrix([0], [9])
