"""One meter per task: takes maps and stored labels, image by image, and gives named numbers."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from mtlora.data.read import MM_PER_M
from mtlora.data.records import LabelArray
from mtlora.maps.postprocessing import Map
from mtlora.metrics.geometry import DepthErrors, NormalsErrors
from mtlora.metrics.saliency import SaliencyCounts, iou_at_half, max_f_beta, max_mean_iou
from mtlora.metrics.segmentation import ConfusionMatrix, class_iou, mean_iou, pixel_accuracy, reference_mean_iou
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import Task

Scores = dict[str, float]
"""Name to value; a value may be NaN where nothing was labelled."""

HEADLINE = {
    Task.SEMSEG: "miou",
    Task.HUMAN_PARTS: "miou",
    Task.SALIENCY: "max_mean_iou",
    Task.NORMALS: "mean_deg",
    Task.EDGE: "max_f",
    Task.DEPTH: "rmse_m",
}
"""The number by which a task is reported in one line."""


class Meter(Protocol):
    """Collects over a set of images."""

    def update(self, prediction: Map, label: LabelArray) -> None:
        """Add one image: a map at the label's size, and the label as stored, [C, H, W] (see `read_label`)."""

    def scores(self) -> Scores:
        """The numbers so far."""

    def remark(self) -> str:
        """What the numbers hide, in words: maps that are the same everywhere; empty where there is nothing to say."""


class _Plain:
    """A meter whose numbers hide nothing."""

    def remark(self) -> str:
        """See `Meter.remark`."""
        return ""


class ClassMeter:
    """mIoU and its parts, for semseg and human_parts."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._matrix = ConfusionMatrix(len(names))

    def update(self, prediction: Map, label: LabelArray) -> None:
        """See `Meter.update`."""
        self._matrix.update(prediction.astype(np.uint8, copy=False), label[0])

    def scores(self) -> Scores:
        """`miou`, `reference_miou`, `pixel_accuracy`, and `iou/CLASS` of every class."""
        counts = self._matrix.counts
        parts = {f"iou/{name}": float(v) for name, v in zip(self._names, class_iou(counts), strict=True)}
        return {
            "miou": mean_iou(counts),
            "reference_miou": reference_mean_iou(counts),
            "pixel_accuracy": pixel_accuracy(counts),
            **parts,
        }

    def remark(self) -> str:
        """See `Meter.remark`: a set that gives all pixels one class, although there are others."""
        counts = self._matrix.counts
        found, labelled = np.flatnonzero(counts.sum(axis=0)), np.flatnonzero(counts.sum(axis=1))
        if len(found) != 1 or len(self._names) == 1:
            return ""
        only = f"predicts only {self._names[found[0]]}"
        missed = [self._names[index] for index in labelled if index not in found]
        if not missed:
            return f"{only}, and labels show nothing else: these scores say nothing"
        return f"{only}; {', '.join(missed)} in the labels, found nowhere"


class SaliencyMeter:
    """IoU and F-beta, for saliency."""

    def __init__(self) -> None:
        self._counts, self._reference = SaliencyCounts(), SaliencyCounts(apply_sigmoid=True)

    def update(self, prediction: Map, label: LabelArray) -> None:
        """See `Meter.update`."""
        scores = prediction.astype(np.float32, copy=False)
        self._counts.update(scores, label[0])
        self._reference.update(scores, label[0])

    def scores(self) -> Scores:
        """`max_mean_iou`, `iou_at_half`, `max_f`, `reference_max_f`."""
        counts = self._counts.counts
        return {
            "max_mean_iou": max_mean_iou(counts),
            "iou_at_half": iou_at_half(counts),
            "max_f": max_f_beta(counts),
            "reference_max_f": max_f_beta(self._reference.counts),
        }

    def remark(self) -> str:
        """See `Meter.remark`: not a pixel of what is salient found at 0.5."""
        return "nothing that is salient is found at 0.5" if iou_at_half(self._counts.counts) == 0 else ""


class NormalsMeter(_Plain):
    """Angular errors, for normals."""

    def __init__(self) -> None:
        self._errors = NormalsErrors()

    def update(self, prediction: Map, label: LabelArray) -> None:
        """See `Meter.update`."""
        self._errors.update(
            prediction.astype(np.float32, copy=False), label.transpose(1, 2, 0).astype(np.uint8, copy=False)
        )

    def scores(self) -> Scores:
        """`mean_deg`, `median_deg`, `rmse_deg`, `reference_rmse_deg`, `within_11.25_deg`, …"""
        e = self._errors
        return {
            "mean_deg": e.mean_deg(),
            "median_deg": e.median_deg(),
            "rmse_deg": e.rmse_deg(),
            "reference_rmse_deg": e.reference_rmse_deg(),
            **e.within(),
        }


class EdgeMeter(_Plain):
    """Pixel-exact F-measure of edges. Not ODS-F: no thinning and no tolerance, so it is lower."""

    def __init__(self) -> None:
        self._counts = SaliencyCounts()

    def update(self, prediction: Map, label: LabelArray) -> None:
        """See `Meter.update`."""
        self._counts.update(prediction.astype(np.float32, copy=False), label[0])

    def scores(self) -> Scores:
        """`max_f`."""
        return {"max_f": max_f_beta(self._counts.counts)}


class DepthMeter(_Plain):
    """Errors in metres, for depth."""

    def __init__(self) -> None:
        self._errors = DepthErrors()

    def update(self, prediction: Map, label: LabelArray) -> None:
        """See `Meter.update`."""
        metres = label[0].astype(np.float32) / MM_PER_M
        self._errors.update(prediction.astype(np.float32, copy=False), metres)

    def scores(self) -> Scores:
        """`rmse_m`, `mean_absolute_m`."""
        return {"rmse_m": self._errors.rmse_m(), "mean_absolute_m": self._errors.mean_absolute_m()}


_METERS: dict[Task, Callable[[], Meter]] = {
    Task.SALIENCY: SaliencyMeter,
    Task.NORMALS: NormalsMeter,
    Task.EDGE: EdgeMeter,
    Task.DEPTH: DepthMeter,
}


def build_meter(task: TaskSpec) -> Meter:
    """An empty meter for a task of an adapter set."""
    if task.classes:
        return ClassMeter([c.name for c in task.classes])
    return _METERS[task.task]()
