"""The check of `mtlora data check`: reads every file of a dataset and reports all faults at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from mtlora.data import folder
from mtlora.data.cache import Progress, no_progress
from mtlora.data.layout import collect, find_layout, splits_of
from mtlora.data.read import open_image
from mtlora.data.records import LabelArray, PhotoDataset, PhotoRecord
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

_FARTHEST_MM = 2**16 - 1  # what a 16-bit PNG has at most, and where cameras write that they saw nothing
UNIT_TOLERANCE = 0.1
"""How far from 1 the mean length of a label's normals may be."""

_PHOTO_SIZED = (Task.SEMSEG, Task.HUMAN_PARTS, Task.SALIENCY, Task.EDGE)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found.

    counts:   split -> task -> photos with that label; the number of photos under None
    problems: every fault, in words
    """

    layout: str
    counts: dict[str, dict[Task | None, int]]
    problems: tuple[str, ...]


def check_dataset(
    root: Path,
    splits: Sequence[str] = (),
    *,
    class_counts: Mapping[Task, int] | None = None,
    progress: Progress = no_progress,
) -> CheckReport:
    """Look at every photo and label of these splits (none named: all).

    class_counts: classes of a task where they are the user's own; default: the layout's
    """
    layout = find_layout(root)
    names = tuple(splits) or tuple(splits_of(root))
    if not names:
        raise DataError(f"{root / layout.SPLITS} holds no list of photos (SPLIT.txt)")
    problems: list[str] = folder.orphans(root) if layout is folder else []
    datasets: dict[str, PhotoDataset] = {}
    for name in names:
        try:
            found = collect(root, name)
        except DataError as error:
            problems.append(str(error))
            continue
        datasets[name] = found.dataset
        problems += found.problems
    problems += _shared(datasets)
    total, done = sum(map(len, datasets.values())), 0
    for name, dataset in datasets.items():
        limits = {task: len(classes) for task, classes in dataset.classes.items()} | dict(class_counts or {})
        for record in dataset.records:
            problems += [f"{name}: {fault}" for fault in _faults(record, limits)]
            done += 1
            progress(done, total)
    counts = {name: _counts(dataset) for name, dataset in datasets.items()}
    problems += [f"{name}: no photo has any label" for name, count in counts.items() if len(count) == 1]
    return CheckReport(layout.NAME, counts, tuple(problems))


def _shared(datasets: Mapping[str, PhotoDataset]) -> list[str]:
    ids = {name: {record.id for record in dataset.records} for name, dataset in datasets.items()}
    return [
        f"{len(ids[a] & ids[b])} photos are in both {a} and {b}, such as {min(ids[a] & ids[b])}"
        for a, b in combinations(ids, 2)
        if {a, b} == {"train", "val"} and ids[a] & ids[b]
    ]


def _counts(dataset: PhotoDataset) -> dict[Task | None, int]:
    return {None: len(dataset)} | {task: dataset.count(task) for task in Task if dataset.count(task)}


def _faults(record: PhotoRecord, limits: Mapping[Task, int]) -> Iterator[str]:
    size = None
    try:
        with open_image(record.photo) as photo:
            size = photo.size[::-1]
    except DataError as error:
        yield str(error)
    for task, source in record.labels.items():
        try:
            label = source.load()
        except DataError as error:
            yield str(error)
            continue
        if size is not None and task in _PHOTO_SIZED and label.shape != size:
            yield f"{source.shown} is {label.shape[1]} x {label.shape[0]}, the photo {size[1]} x {size[0]}"
        fault = _values(task, label, limits)
        if fault:
            yield f"{source.shown} {fault}"


def _values(task: Task, label: LabelArray, limits: Mapping[Task, int]) -> str:
    """What is wrong with the values of a label, in words, or nothing."""
    if task in limits:
        found = np.unique(label)
        wrong = found[(found >= limits[task]) & (found != IGNORE_INDEX)]
        return f"has class {', '.join(map(str, wrong))}, expected 0..{limits[task] - 1} or 255" if len(wrong) else ""
    if task is Task.DEPTH:
        share = float((label == _FARTHEST_MM).mean())
        return f"has {share:.1%} of its pixels at {_FARTHEST_MM} mm; 0 says that depth is not known" if share else ""
    if task is Task.NORMALS:
        vectors = label[label.any(axis=-1)].astype(np.float64) / 127.5 - 1
        length = float(np.linalg.norm(vectors, axis=-1).mean()) if len(vectors) else 1.0
        return "" if abs(length - 1) < UNIT_TOLERANCE else f"has normals of mean length {length:.2f}, expected 1"
    return ""
