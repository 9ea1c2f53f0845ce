import math

import numpy as np
import pytest

from mtlora.metrics.saliency import (
    THRESHOLDS,
    SaliencyCounts,
    image_iou,
    iou_at_half,
    max_f_beta,
    max_mean_iou,
    reference_max_mean_iou,
)
from mtlora.vocabulary.errors import DataError


def counts(*images: tuple[list[float], list[int]], apply_sigmoid: bool = False) -> np.ndarray:
    meter = SaliencyCounts(apply_sigmoid=apply_sigmoid)
    for prediction, label in images:
        meter.update(np.array([prediction], np.float32), np.array([label], np.uint8))
    assert meter.images == len(images)
    return meter.counts


def test_thresholds_are_the_published_fifteen() -> None:
    assert len(THRESHOLDS) == 15
    assert (THRESHOLDS[0], THRESHOLDS[-1]) == (0.2, 0.9)


def test_one_image_by_hand() -> None:
    """Salient: first two pixels. Above 0.2: three pixels, IoU 2/3; above 0.65: the first only, IoU 1/2."""
    table = counts(([0.8, 0.4, 0.3, 0.1], [255, 128, 127, 0]))
    iou = image_iou(table)[0]
    assert iou[0] == pytest.approx(2 / 3)
    assert iou[3] == pytest.approx(1.0)  # 0.35
    assert iou[9] == pytest.approx(1 / 2)  # 0.65
    assert iou[-1] == 0.0  # nothing is above 0.9
    assert max_mean_iou(table) == pytest.approx(1.0)
    assert iou_at_half(table) == pytest.approx(1 / 2)


def test_every_threshold_agrees_with_a_plain_comparison() -> None:
    rng = np.random.default_rng(0)
    prediction, label = rng.random(500).astype(np.float32), rng.integers(0, 256, 500)
    table = counts((prediction.tolist(), label.tolist()))[0]
    salient = label >= 127.5
    for k, threshold in enumerate(THRESHOLDS):
        found = prediction > threshold
        assert table[:, k].tolist() == [(found & salient).sum(), found.sum(), salient.sum()]


def test_the_mean_is_over_images_before_the_maximum() -> None:
    table = counts(([0.5, 0.0], [255, 0]), ([0.95, 0.95], [255, 0]))
    assert max_mean_iou(table) == pytest.approx((1.0 + 0.5) / 2)
    assert reference_max_mean_iou(table) == max_mean_iou(table)
    assert iou_at_half(table) == pytest.approx(1 / 3)  # the first image's 0.5 is not above 0.5


def test_an_empty_image_predicted_empty_is_perfect() -> None:
    assert max_mean_iou(counts(([0.0, 0.1], [0, 0]))) == 1.0
    assert math.isnan(iou_at_half(counts(([0.0, 0.1], [0, 0]))))


def test_f_beta_by_hand_and_the_published_fault() -> None:
    """At 0.2..0.55: precision 1/2, recall 1: 1.3 / (0.3 + 2) for one labelled of two found pixels."""
    image = ([0.9, 0.6], [255, 0])
    assert max_f_beta(counts(image)) == pytest.approx(1.0)  # above 0.6 only the right pixel is left
    half = ([0.6, 0.6], [255, 0])
    assert max_f_beta(counts(half)) == pytest.approx(1.3 / (0.3 + 2))
    low = ([0.1, 0.05], [255, 0])  # after a sigmoid both are above 0.5: the fault finds what nobody predicted
    assert max_f_beta(counts(low)) == 0.0
    assert max_f_beta(counts(low, apply_sigmoid=True)) > 0.5


def test_no_images_and_wrong_sizes() -> None:
    assert math.isnan(max_mean_iou(counts()))
    assert math.isnan(max_f_beta(counts()))
    with pytest.raises(DataError, match="differ in size"):
        counts(([0.1], [0, 0]))
