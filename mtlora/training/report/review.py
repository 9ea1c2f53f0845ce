"""The review of a result: its scores photo by photo, which classes it takes for which, and its worst photos."""

import csv
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.data.records import PhotoDataset
from mtlora.images.opening import open_photo
from mtlora.metrics import HEADLINE, build_meter
from mtlora.metrics.delta import LOWER_IS_BETTER
from mtlora.metrics.meters import Scores
from mtlora.metrics.segmentation import ConfusionMatrix
from mtlora.prediction.predict import Predictor, coarse_logits, map_of
from mtlora.training.report.strips import known_labels, strip
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.tasks import Task


@dataclass(frozen=True, slots=True)
class ReviewedPhoto:
    """A photo, its headline score for every task that it has a label of (NaN: nothing counted), and its strip."""

    id: str
    scores: dict[Task, float]
    strip: Image.Image


@dataclass(frozen=True, slots=True)
class Review:
    """What a set does on some photos.

    scores:    by task, over all photos together
    confusion: by task with classes, int64 [K, K] pixels: `[label, prediction]`
    """

    spec: AdapterSpec
    photos: tuple[ReviewedPhoto, ...]
    scores: dict[Task, Scores]
    confusion: dict[Task, NDArray[np.int64]]

    def worst(self, count: int = 10) -> list[ReviewedPhoto]:
        """The photos with the lowest mean rank over the tasks that they have labels of, the worst first."""
        ranks: dict[str, list[float]] = {}
        for task in self.scores:
            rated = [(_badness(task, p.scores[task]), p.id) for p in self.photos if _counts(p, task)]
            for place, (_, name) in enumerate(sorted(rated, reverse=True)):
                ranks.setdefault(name, []).append(place / len(rated))
        rated_photos = [photo for photo in self.photos if photo.id in ranks]
        return sorted(rated_photos, key=lambda p: (sum(ranks[p.id]) / len(ranks[p.id]), p.id))[:count]


def _counts(photo: ReviewedPhoto, task: Task) -> bool:
    return not math.isnan(photo.scores.get(task, math.nan))


def _badness(task: Task, score: float) -> float:
    return score if task in LOWER_IS_BETTER else -score


def review(model: Predictor, dataset: PhotoDataset) -> Review:
    """Run a model on every photo, as the service would, and hold the maps against the labels."""
    tasks = [task for task in model.spec.tasks if dataset.count(task.task)]
    if not tasks:
        raise TrainingError(f"{dataset.root}, split {dataset.split!r}, has no label of any of the set's tasks")
    meters = {task.task: build_meter(task) for task in tasks}
    matrices = {task.task: ConfusionMatrix(task.outputs) for task in tasks if task.classes}
    photos = []
    for record in dataset.records:
        photo = open_photo(record.photo)
        labels = known_labels(record, tasks, dataset)
        coarse = coarse_logits(model, photo, [task.task for task in tasks])
        scores = {}
        for task in tasks:
            if (label := labels.get(task.task)) is None:
                continue
            found = map_of(task.task, coarse[task.task], model.spec, *label.shape[-2:])
            alone = build_meter(task)
            for meter in (alone, meters[task.task]):
                meter.update(found, label)
            scores[task.task] = alone.scores()[HEADLINE[task.task]]
            if task.classes:
                matrices[task.task].update(found.astype(np.uint8, copy=False), label[0])
        maps = {t: map_of(t, logits, model.spec, photo.height, photo.width) for t, logits in coarse.items()}
        photos.append(ReviewedPhoto(record.id, scores, strip(photo, tasks, labels, maps)))
    whole = {task: meter.scores() for task, meter in meters.items()}
    return Review(model.spec, tuple(photos), whole, {task: matrix.counts for task, matrix in matrices.items()})


def shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of what is labelled as a class, the shares that are predicted as each: float64 [K, K], rows sum to 1 or are 0."""
    totals = counts.sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    return result


def never_found(task: TaskSpec, counts: NDArray[np.int64]) -> list[str]:
    """Classes that occur in labels and are predicted nowhere."""
    wanted, found = counts.sum(axis=1) > 0, counts.sum(axis=0) > 0
    return [c.name for c, missing in zip(task.classes, wanted & ~found, strict=True) if missing]


def confusion_csv(task: TaskSpec, counts: NDArray[np.int64]) -> str:
    """Pixels as a table: a row per labelled class, a column per predicted one."""
    text = io.StringIO()
    names = [c.name for c in task.classes]
    writer = csv.writer(text)
    writer.writerow(["labelled \\ predicted", *names])
    writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    return text.getvalue()
