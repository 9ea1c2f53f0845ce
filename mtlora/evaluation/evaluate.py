"""The evaluation of a model on a split of a dataset: photos in and maps out exactly as the service does it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlora.data.agreement import disagreement, sizes_in_words
from mtlora.data.classes import check_classes, label_table
from mtlora.data.findings import Finding, in_place
from mtlora.data.photos import PhotoShape, load_photo
from mtlora.data.read import read_label
from mtlora.data.records import LabelArray, PhotoDataset, PhotoRecord
from mtlora.images.photo import Photo
from mtlora.maps.postprocessing import Map
from mtlora.metrics.meters import Scores, build_meter
from mtlora.prediction.predict import Predictor, coarse_logits, map_of, tiling_of
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task


@dataclass(frozen=True, slots=True)
class TaskReport:
    """Scores of a task over all labelled photos, and by what meta.csv says of a label's origin (empty without it).

    remark: what the scores hide, in words, such as that only background is predicted; empty: nothing
    """

    photos: int
    scores: Scores
    by_origin: dict[str, "TaskReport"]
    remark: str = ""

    def to_plain(self) -> dict[str, object]:
        """As JSON values; NaN becomes None."""
        plain: dict[str, object] = {"photos": self.photos}
        plain |= {name: None if math.isnan(value) else round(value, 5) for name, value in self.scores.items()}
        if self.remark:
            plain["remark"] = self.remark
        if self.by_origin:
            plain["by_label_origin"] = {origin: report.to_plain() for origin, report in self.by_origin.items()}
        return plain


class _Tally:
    """Meters of one task: over all photos, and per origin of the labels."""

    def __init__(self, task: TaskSpec) -> None:
        self._task = task
        self._all = build_meter(task)
        self._photos = 0
        self._origins: dict[str, _Tally] = {}

    def update(self, prediction: Map, label: LabelArray, origin: str) -> None:
        self._photos += 1
        self._all.update(prediction, label)
        if origin:
            self._origins.setdefault(origin, _Tally(self._task)).update(prediction, label, "")

    def report(self) -> TaskReport:
        by_origin = {origin: self._origins[origin].report() for origin in sorted(self._origins)}
        return TaskReport(self._photos, self._all.scores(), by_origin, self._all.remark())


def evaluate(
    model: Predictor,
    dataset: PhotoDataset,
    tasks: Sequence[Task] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    tiles: str | None = None,
) -> dict[Task, TaskReport]:
    """Scores per task; a photo counts for the tasks it has labels of, at the size of its label.

    `DataError` names a label that does not fit its photo, or classes of the dataset that are not the set's.

    tasks: None means all of the set for which the dataset has labels
    tiles: as of `predict`
    """
    wanted = [t for t in model.spec.select(tuple(tasks) if tasks else None) if tasks or dataset.count(t)]
    tallies = {task: _Tally(model.spec.task(task)) for task in wanted}
    tables = {task: _table(model.spec.task(task), dataset) for task in wanted}
    tiling = tiling_of(tiles)
    for done, record in enumerate(dataset.records, start=1):
        present = [task for task in wanted if task in record.labels]
        if present:
            labels = {task: read_label(record.labels[task], task) for task in present}
            photo = load_photo(record.photo)
            _check_sizes(dataset.root, record, photo, labels)
            grid = tiling.of(photo.width, photo.height, model.spec.image_size)
            coarse = coarse_logits(model, photo.whole(), present, grid)
            for task, label in labels.items():
                known = _known(record, model.spec.task(task), label, tables[task])
                found = map_of(task, coarse[task], model.spec, known.shape[-2], known.shape[-1], grid)
                tallies[task].update(found, known, record.origin.get(task, ""))
        progress(done, len(dataset))
    return {task: tally.report() for task, tally in tallies.items()}


def _table(task: TaskSpec, dataset: PhotoDataset) -> NDArray[np.uint8]:
    check_classes(task, dataset)
    return label_table(task, dataset.classes.get(task.task, ()))


def _known(record: PhotoRecord, task: TaskSpec, label: LabelArray, table: NDArray[np.uint8]) -> LabelArray:
    """A label in the set's classes; `DataError` names a value that is none."""
    if not task.classes:
        return label
    known: LabelArray = table[label]
    strays = np.unique(label[(known >= len(task.classes)) & (known != IGNORE_INDEX)])
    if strays.size:
        values = ", ".join(map(str, strays))
        raise DataError(f"{record.labels[task.task].shown} holds {values}: no class of {task.task.value}")
    return known


def _check_sizes(root: Path, record: PhotoRecord, photo: Photo, labels: Mapping[Task, LabelArray]) -> None:
    shape = PhotoShape(photo.width, photo.height, photo.orientation)
    for task, label in labels.items():
        size = label.shape[-1], label.shape[-2]
        cause, mend = disagreement(size, shape)
        if cause:
            where = f"{record.labels[task].shown} ({sizes_in_words(size, shape)})"
            raise DataError(in_place([Finding(f"labels {cause}", (where,), mend)], root)[0].line())
