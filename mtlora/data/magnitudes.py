"""The values of labels that are no classes: saliency, edges, normals, depth; what is unlikely about them, in words."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtlora.data.findings import TO_MASKS, Finding
from mtlora.data.read import FARTHEST_MM, MM_PER_M, PEAK
from mtlora.data.records import LabelArray
from mtlora.vocabulary.tasks import NORMALS_AXES, Task

UNIT_TOLERANCE = 0.1
"""How far from 1 the mean length of a label's normals may be."""

_POSITIVE = 128
_NEAREST_MM = 100


@dataclass(frozen=True, slots=True)
class Magnitude:
    """Numbers of one label.

    known:    share of the pixels that say anything; of saliency and edges: that are positive
    least, most: of what is known; metres of depth, 0..255 of saliency and edges, n_z of normals
    at_most: share of what is known that has the largest value; 0 where it is not counted
    """

    known: float
    least: float
    most: float
    mean: float
    at_most: float = 0.0


@dataclass(slots=True)
class Magnitudes:
    """Numbers of all labels of a task, of every split."""

    task: Task
    axes: str
    count: int = 0
    empty: int = 0
    known: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    mean: float = 0.0
    at_most: float = 0.0
    beyond: int = 0

    def add(self, label: LabelArray) -> None:
        """One more label, as stored."""
        found = _MEASURES[self.task](label)
        self.count += 1
        self.empty += not found.known
        self.known += found.known
        self.beyond += _at_limit(self.task, label) > 0
        if found.most >= self.most:
            self.at_most = (self.at_most if found.most == self.most else 0.0) + found.at_most * found.known
        self.most = max(self.most, found.most)
        if found.known:
            self.least = min(self.least, found.least)
            self.mean += found.mean

    def line(self) -> str:
        """One line of numbers."""
        share = self.known / max(1, self.count)
        if self.task in (Task.SALIENCY, Task.EDGE):
            what = "salient" if self.task is Task.SALIENCY else "edges"
            words = f"{self.task}: {share:.2%} of the pixels are {what} ({_POSITIVE} or more)"
            return f"{words}; none in {self.empty} of {self.count} labels"
        words = f"{self.task}: known in {share:.2%} of the pixels"
        if self.task is Task.DEPTH and share:
            words += (
                f", {self.least:.3g} to {self.most:.3g} m; {self.at_most / self.known:.2%} of it at the largest value"
            )
        return words

    def problems(self) -> list[Finding]:
        """Labels from which nothing can be learned."""
        if not self.count or self.empty < self.count:
            return []
        if self.task in (Task.SALIENCY, Task.EDGE):
            cause = f"{self.task} labels have no pixel of {_POSITIVE} or more: nothing can be learned from them"
            is_mask = self.most == 1
            return [Finding(cause, mend=f"Are these 0/1 masks? They go up to {PEAK}: {TO_MASKS}" if is_mask else "")]
        asked = " Are these millimetres where metres are meant?" if self.beyond == self.count else ""
        return [Finding(f"{self.task} labels say nothing in any pixel: nothing can be learned from them.{asked}")]

    def notes(self) -> list[Finding]:
        """Values that look like those of another unit or other axes."""
        labelled = self.count - self.empty
        if not labelled:
            return []
        if self.task is Task.DEPTH and self.most < _NEAREST_MM / MM_PER_M:
            return [Finding(f"depth labels reach {self.most * MM_PER_M:.0f} mm only: are they metres, not mm?")]
        if self.task is Task.NORMALS and self.axes == NORMALS_AXES and self.mean / labelled > 0:
            return [Finding("normals point away from the camera in most labels", mend=f"Axes are {NORMALS_AXES}")]
        return []


def label_note(task: Task, label: LabelArray) -> str:
    """What of one label's values does not count, in words, or nothing."""
    return f"have pixels at {FARTHEST_MM} mm or beyond, which count as unknown" if _at_limit(task, label) else ""


def label_fault(task: Task, label: LabelArray) -> str:
    """What is wrong with the values of one label that has no classes, in words, or nothing."""
    if task is Task.NORMALS:
        vectors = _vectors(label)
        length = float(np.linalg.norm(vectors, axis=-1).mean()) if len(vectors) else 1.0
        return "" if abs(length - 1) < UNIT_TOLERANCE else "have normals whose mean length is not 1"
    return ""


def fault_measure(task: Task, label: LabelArray) -> str:
    """The number of such a note or fault, short."""
    if task is Task.DEPTH:
        return f"{_at_limit(task, label):.1%}"
    return f"{float(np.linalg.norm(_vectors(label), axis=-1).mean()):.2f}"


def _at_limit(task: Task, label: LabelArray) -> float:
    """Share of the pixels of depth that lie at the largest value."""
    return float((label == FARTHEST_MM).mean()) if task is Task.DEPTH else 0.0


def _positive(label: LabelArray) -> Magnitude:
    return Magnitude(float((label >= _POSITIVE).mean()), float(label.min()), float(label.max()), float(label.mean()))


def _depth(label: LabelArray) -> Magnitude:
    known = label[(label > 0) & (label < FARTHEST_MM)] / MM_PER_M
    if not known.size:
        return Magnitude(0.0, 0.0, 0.0, 0.0)
    most = float(known.max())
    at_most = float((known == most).mean())
    return Magnitude(known.size / label.size, float(known.min()), most, float(known.mean()), at_most)


def _normals(label: LabelArray) -> Magnitude:
    z = _vectors(label)[:, 2]
    pixels = label.shape[0] * label.shape[1]
    if not z.size:
        return Magnitude(0.0, 0.0, 0.0, 0.0)
    return Magnitude(z.size / pixels, float(z.min()), float(z.max()), float(z.mean()))


def _vectors(label: LabelArray) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]] = label[label.any(axis=-1)].astype(np.float64) / 127.5 - 1
    return found


_MEASURES: dict[Task, Callable[[LabelArray], Magnitude]] = {
    Task.SALIENCY: _positive,
    Task.EDGE: _positive,
    Task.DEPTH: _depth,
    Task.NORMALS: _normals,
}
