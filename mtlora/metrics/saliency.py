"""Saliency: IoU and F-beta of thresholded maps."""

import numpy as np
from numpy.typing import NDArray

from mtlora.vocabulary.errors import DataError

THRESHOLDS = np.linspace(0.2, 0.9, 15)
"""Thresholds of the published metric."""

BETA_SQUARED = 0.3
LABEL_THRESHOLD = 0.5


class SaliencyCounts:
    """Per image and threshold: true positives, predicted positives, and labelled positives.

    apply_sigmoid: the published F-beta meter's fault: a sigmoid on top of probabilities
    """

    def __init__(self, *, apply_sigmoid: bool = False) -> None:
        self._apply_sigmoid = apply_sigmoid
        self._rows: list[NDArray[np.int64]] = []

    def update(self, prediction: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        """Add one image: prediction float32 [H, W] in 0..1; label uint8 [H, W], 255 * p, 128 and above is salient."""
        if prediction.shape != label.shape:
            raise DataError(f"prediction {prediction.shape} and label {label.shape} differ in size")
        scores = 1 / (1 + np.exp(-prediction)) if self._apply_sigmoid else prediction
        salient = label >= 255 * LABEL_THRESHOLD
        # how many thresholds each pixel exceeds; then one histogram instead of fifteen comparisons
        level = np.searchsorted(THRESHOLDS, scores.ravel(), side="left")
        hit = np.bincount(level[salient.ravel()], minlength=len(THRESHOLDS) + 1)
        every = np.bincount(level, minlength=len(THRESHOLDS) + 1)
        above_hit, above = hit[::-1].cumsum()[::-1][1:], every[::-1].cumsum()[::-1][1:]
        self._rows.append(np.stack([above_hit, above, np.full(len(THRESHOLDS), salient.sum())]))

    @property
    def images(self) -> int:
        """Number of images added."""
        return len(self._rows)

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [images, 3, thresholds]: true, predicted and labelled positives."""
        if not self._rows:
            return np.zeros((0, 3, len(THRESHOLDS)), dtype=np.int64)
        return np.stack(self._rows)


def image_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of the salient class per image and threshold, float64 [images, thresholds]; 1 where both are empty."""
    hits, found, wanted = counts[:, 0], counts[:, 1], counts[:, 2]
    union = found + wanted - hits
    iou: NDArray[np.float64] = np.divide(hits, union, out=np.ones(union.shape), where=union > 0)
    return iou


def max_mean_iou(counts: NDArray[np.int64]) -> float:
    """IoU per image and threshold, averaged over images, largest over thresholds: the published saliency mIoU.

    The threshold is chosen on the images that are scored, so it flatters a little; see `iou_at_half`.
    """
    return float(image_iou(counts).mean(axis=0).max()) if len(counts) else float("nan")


reference_max_mean_iou = max_mean_iou
"""The published number has this very definition."""


def iou_at_half(counts: NDArray[np.int64]) -> float:
    """IoU of the salient class at threshold 0.5 over all pixels of the set; NaN where nothing is salient anywhere."""
    middle = int(np.abs(THRESHOLDS - 0.5).argmin())
    hits, found, wanted = counts[:, :, middle].sum(axis=0)
    union = found + wanted - hits
    return float(hits / union) if union else float("nan")


def max_f_beta(counts: NDArray[np.int64]) -> float:
    """F-beta (beta squared 0.3) over all pixels of the set, largest over thresholds; NaN where nothing is salient."""
    hits, found, wanted = counts.sum(axis=0).astype(np.float64) if len(counts) else np.zeros((3, len(THRESHOLDS)))
    if not wanted.any():
        return float("nan")
    scores = (1 + BETA_SQUARED) * hits / np.maximum(BETA_SQUARED * wanted + found, 1)
    return float(scores.max())
