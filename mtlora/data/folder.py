"""The project's own dataset layout: one folder of PNG files per task.

    DIR/JPEGImages/ID.jpg         RGB photo (also .jpeg, .png, .webp)
    DIR/ImageSets/SPLIT.txt       one ID a line
    DIR/semseg/ID.png             class indices, 255 = ignore
    DIR/human_parts/ID.png        class indices, 255 = ignore
    DIR/saliency/ID.png           grey, 255 * p
    DIR/normals/ID.png            RGB, (n + 1) * 127.5, exactly (0, 0, 0) = ignore, any size
    DIR/edge/ID.png               grey, 255 * p
    DIR/depth/ID.png              16-bit grey, millimetres, 0 = ignore, any size
    DIR/meta.csv                  optional; column `id`, and a column per task with the label's origin

Any label may be missing for any photo.
"""

import csv
from pathlib import Path

from mtlora.data.read import read_depth, read_grey, read_normals
from mtlora.data.records import (
    PHOTO_SUFFIXES,
    Collected,
    LabelSource,
    PhotoDataset,
    PhotoRecord,
    Reader,
    files_by_id,
    read_ids,
)
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task

NAME = "a folder dataset"
SPLITS = "ImageSets"
PHOTO_FOLDER = "JPEGImages"
META_FILE = "meta.csv"
_READERS: dict[Task, Reader] = {Task.NORMALS: read_normals, Task.DEPTH: read_depth}


def collect(root: Path, split: str) -> Collected:
    """See `layout.collect`."""
    ids = read_ids(root / SPLITS, split)
    meta = read_meta(root / META_FILE)
    photos = files_by_id(root / PHOTO_FOLDER, PHOTO_SUFFIXES)
    labels = {task: files_by_id(root / task.value, (".png",)) for task in Task}
    records = tuple(
        PhotoRecord(
            id=name,
            photo=photos[name],
            labels={
                task: LabelSource(_READERS.get(task, read_grey), (found[name],))
                for task, found in labels.items()
                if name in found
            },
            origin={task: meta[name][task.value] for task in Task if meta.get(name, {}).get(task.value)},
        )
        for name in ids
        if name in photos
    )
    problems = [f"photo {name!r} of split {split!r} is missing in {PHOTO_FOLDER}" for name in ids if name not in photos]
    return Collected(PhotoDataset(root, split, records), tuple(problems))


def orphans(root: Path) -> list[str]:
    """Labels and rows of meta.csv that belong to no photo, in words."""
    photos = files_by_id(root / PHOTO_FOLDER, PHOTO_SUFFIXES)
    labels = {task: files_by_id(root / task.value, (".png",)) for task in Task}
    lost = [
        f"{task.value}/{name}.png belongs to no photo"
        for task, found in labels.items()
        for name in sorted(found.keys() - photos.keys())
    ]
    return lost + [
        f"{META_FILE} has a row for {name!r}, which is no photo"
        for name in read_meta(root / META_FILE)
        if name not in photos
    ]


def read_meta(path: Path) -> dict[str, dict[str, str]]:
    """Rows of meta.csv by ID; empty without the file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "id" not in rows[0]:
        raise DataError(f"{path} has no column 'id', only {', '.join(rows[0])}")
    return {row["id"]: row for row in rows}
