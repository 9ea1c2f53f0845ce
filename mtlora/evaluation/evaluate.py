"""The evaluation of a model on a split of a dataset: photos in and maps out exactly as the service does it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtlora.data.classes import label_table
from mtlora.data.read import read_label
from mtlora.data.records import LabelArray, PhotoDataset
from mtlora.images.opening import open_photo
from mtlora.maps.postprocessing import Map
from mtlora.metrics.meters import Scores, build_meter
from mtlora.prediction.predict import Predictor, coarse_logits, map_of, tiling_of
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import Task


@dataclass(frozen=True, slots=True)
class TaskReport:
    """Scores of a task over all labelled photos, and by what meta.csv says of a label's origin (empty without it)."""

    photos: int
    scores: Scores
    by_origin: dict[str, "TaskReport"]

    def to_plain(self) -> dict[str, object]:
        """As JSON values; NaN becomes None."""
        plain: dict[str, object] = {"photos": self.photos}
        plain |= {name: None if math.isnan(value) else round(value, 5) for name, value in self.scores.items()}
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
        return TaskReport(self._photos, self._all.scores(), by_origin)


def evaluate(
    model: Predictor,
    dataset: PhotoDataset,
    tasks: Sequence[Task] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    tiles: str | None = None,
) -> dict[Task, TaskReport]:
    """Scores per task; a photo counts for the tasks it has labels of, at the size of its label.

    tasks: None means all of the set for which the dataset has labels
    tiles: as of `predict`
    """
    wanted = [t for t in model.spec.select(tuple(tasks) if tasks else None) if tasks or dataset.count(t)]
    tallies = {task: _Tally(model.spec.task(task)) for task in wanted}
    tables = {task: label_table(model.spec.task(task), dataset.classes.get(task, ())) for task in wanted}
    tiling = tiling_of(tiles)
    for done, record in enumerate(dataset.records, start=1):
        present = [task for task in wanted if task in record.labels]
        if present:
            labels = {task: read_label(record.labels[task], task) for task in present}
            rgb = open_photo(record.photo)
            grid = tiling.of(rgb.width, rgb.height, model.spec.image_size)
            coarse = coarse_logits(model, rgb, present, grid)
            for task, label in labels.items():
                known = tables[task][label] if model.spec.task(task).classes else label
                found = map_of(task, coarse[task], model.spec, known.shape[-2], known.shape[-1], grid)
                tallies[task].update(found, known, record.origin.get(task, ""))
        progress(done, len(dataset))
    return {task: tally.report() for task, tally in tallies.items()}
