"""Mean intersection over union of class maps."""

import numpy as np
from numpy.typing import NDArray

from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX


class ConfusionMatrix:
    """Pixel counts over a whole set: `counts[label, prediction]`, int64 [K, K]."""

    def __init__(self, classes: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros((classes, classes), dtype=np.int64)

    def update(self, prediction: NDArray[np.uint8], label: NDArray[np.uint8]) -> None:
        """Add one image; both uint8 [H, W]; pixels labelled 255 do not count."""
        if prediction.shape != label.shape:
            raise DataError(f"prediction {prediction.shape} and label {label.shape} differ in size")
        labelled = label != IGNORE_INDEX
        wanted, found = label[labelled].astype(np.int64), prediction[labelled].astype(np.int64)
        classes = len(self.counts)
        if wanted.size and max(wanted.max(), found.max()) >= classes:
            raise DataError(f"class {max(wanted.max(), found.max())} in a map of {classes} classes")
        self.counts += np.bincount(wanted * classes + found, minlength=classes**2).reshape(classes, classes)

    @property
    def labelled_pixels(self) -> int:
        """Pixels that counted."""
        return int(self.counts.sum())


def class_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of every class, float64 [K]; NaN for a class neither labelled nor predicted."""
    hits = np.diag(counts).astype(np.float64)
    union = counts.sum(axis=0) + counts.sum(axis=1) - hits
    iou: NDArray[np.float64] = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
    return iou


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean IoU over the classes that occur in the labels; NaN if none does.

    A class that is predicted but nowhere labelled lowers the others (its pixels are misses there), no more.
    """
    labelled = counts.sum(axis=1) > 0
    return float(class_iou(counts)[labelled].mean()) if labelled.any() else float("nan")


def reference_mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean IoU as published: over all classes of the task, a class that never occurs counting as 0."""
    return float(np.nan_to_num(class_iou(counts)).mean())


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    """Share of labelled pixels with the right class; NaN if no pixel is labelled."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else float("nan")
