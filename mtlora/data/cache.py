"""The cache of a decoded dataset: photos and labels as memory maps at one side, so that a training step never waits.

A cache is a folder of `.npy` files beside `index.json`. It is complete or it does not exist: it is built under
another name and renamed at the end. `index.json` holds what it was made from; another side or list builds another.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlora.data.agreement import check_agreement
from mtlora.data.photos import Uint8Array, load_photo, squared
from mtlora.data.read import CHANNELS, IGNORE_VALUE, label_dtype, read_label
from mtlora.data.records import VOC_LABELS, LabelArray, PhotoDataset
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task

_FORMAT = 3
"""Another number makes other caches: 2 held photos as they are stored, not as they are shown."""

LABEL_SHRINK = {Task.NORMALS: 2}
"""Labels of these tasks are smooth and cached at side / 2."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True, slots=True)
class PhotoCache:
    """Arrays of N photos, index for index.

    photos: uint8 [N, 3, side, side], RGB
    labels: task -> [N, C, s, s], stored values (see `read_label`); all `ignore` where a photo has no label
    known:  task -> bool [N], whether the photo has a label at all
    aspect: float32 [N], width / height of the upright photo
    classes: see `PhotoDataset`
    """

    ids: tuple[str, ...]
    side: int
    photos: Uint8Array
    labels: dict[Task, LabelArray]
    known: dict[Task, NDArray[np.bool_]]
    aspect: NDArray[np.float32]
    classes: Mapping[Task, tuple[str, ...]] = field(default_factory=lambda: VOC_LABELS)

    def __len__(self) -> int:
        return len(self.ids)


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


def cached(
    dataset: PhotoDataset, tasks: Sequence[Task], side: int, folder: Path, progress: Progress = no_progress
) -> PhotoCache:
    """Open the cache of these photos under `folder`, building it first where it is missing.

    Photos are as serving sees them. `DataError` lists labels that do not fit their photos.
    """
    if side < 1 or side % 2:
        raise DataError(f"the side of a cache must be even and positive, got {side}")
    text = json.dumps(_description(dataset, tasks, side))
    path = folder / f"photos-{side}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not path.is_dir():
        check_agreement(dataset, tasks)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise DataError(f"{folder} cannot be the folder of caches: {error.strerror}") from error
        _build(dataset, tasks, side, partial, progress)
        (partial / "index.json").write_text(text, encoding="utf-8")
        _publish(partial, path)
    return _open(path, tasks, dataset, side)


def _description(dataset: PhotoDataset, tasks: Sequence[Task], side: int) -> dict[str, object]:
    """What decides a cache: another label file, or one written since, makes another."""
    return {
        "format": _FORMAT,
        "side": side,
        "tasks": [task.value for task in tasks],
        "photos": [[record.id, _version(record.photo)] for record in dataset.records],
        "labels": [
            [_version(path) for task in tasks if task in record.labels for path in record.labels[task].files]
            for record in dataset.records
        ],
        "root": str(dataset.root.resolve()),
    }


def _version(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _publish(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError:  # another process was faster: its cache is as good
        shutil.rmtree(partial)


def _build(dataset: PhotoDataset, tasks: Sequence[Task], side: int, path: Path, progress: Progress) -> None:
    count = len(dataset)
    photos = _create(path / "photos.npy", np.uint8, (count, 3, side, side))
    labels = {}
    for task in tasks:
        shape = (count, CHANNELS.get(task, 1), _label_side(task, side), _label_side(task, side))
        labels[task] = _create(path / f"{task.value}.npy", label_dtype(task), shape)
    known = {task: np.array([task in record.labels for record in dataset.records]) for task in tasks}
    aspect = np.empty(count, dtype=np.float32)

    def fill(index: int) -> None:
        record = dataset.records[index]
        photo = load_photo(record.photo)
        photos[index] = squared(photo, side)
        aspect[index] = photo.width / photo.height
        for task, array in labels.items():
            if task in record.labels:
                array[index] = read_label(record.labels[task], task, _label_side(task, side))
            else:
                array[index] = IGNORE_VALUE.get(task, 0)

    with ThreadPoolExecutor(os.cpu_count()) as readers:
        for done, _ in enumerate(readers.map(fill, range(count)), start=1):
            progress(done, count)
    photos.flush()
    np.save(path / "aspect.npy", aspect)
    for task, array in labels.items():
        array.flush()
        np.save(path / f"{task.value}.known.npy", known[task])


def _label_side(task: Task, side: int) -> int:
    return side // LABEL_SHRINK.get(task, 1)


def _create(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _open(path: Path, tasks: Sequence[Task], dataset: PhotoDataset, side: int) -> PhotoCache:
    try:
        return PhotoCache(
            ids=tuple(record.id for record in dataset.records),
            side=side,
            photos=np.load(path / "photos.npy", mmap_mode="r"),
            labels={task: np.load(path / f"{task.value}.npy", mmap_mode="r") for task in tasks},
            known={task: np.load(path / f"{task.value}.known.npy") for task in tasks},
            aspect=np.load(path / "aspect.npy"),
            classes=dataset.classes,
        )
    except (OSError, ValueError) as error:
        raise DataError(f"the cache {path} is damaged, delete it: {error}") from error
