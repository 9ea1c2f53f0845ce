"""The project's own dataset layout: one folder of PNG files per task.

    DIR/JPEGImages/ID.jpg         RGB photo (also .jpeg, .png, .webp)
    DIR/ImageSets/SPLIT.txt       one ID a line
    DIR/semseg/ID.png             class indices, 255 = ignore
    DIR/human_parts/ID.png        class indices, 255 = ignore
    DIR/saliency/ID.png           grey, 255 * p
    DIR/normals/ID.png            RGB, (n + 1) * 127.5, exactly (0, 0, 0) = ignore, any size
    DIR/edge/ID.png               grey, 255 * p
    DIR/depth/ID.png              16-bit grey, millimetres, 0 = ignore, any size
    DIR/classes.txt               optional; names of semseg's classes, one a line, in order of index
    DIR/classes-human_parts.txt   optional; the same of human_parts
    DIR/meta.csv                  optional; column `id`, and a column per task with the label's origin

Any label may be missing for any photo.
"""

import csv
import io
from collections.abc import Collection, Set
from pathlib import Path

from mtlora.data.class_names import CLASS_FILES, read_class_files
from mtlora.data.findings import AS_PNG, Finding
from mtlora.data.lists import PHOTO_SUFFIXES, doubles, files_by_id, read_list, resolve
from mtlora.data.read import read_classes, read_depth, read_grey, read_normals
from mtlora.data.records import VOC_LABELS, Collected, LabelSource, PhotoDataset, PhotoRecord, Reader
from mtlora.data.text import read_text
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task

NAME = "a folder dataset"
SPLITS = "ImageSets"
PHOTO_FOLDER = "JPEGImages"
META_FILE = "meta.csv"
LABEL_SUFFIX = ".png"
_EXPORT_SUFFIXES = (".json", ".txt", ".xml", ".npy", ".mat")  # of labels that other programs write
_PNG = "labels are PNG files"
_WHY = dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), f"{_PNG}, JPEG changes their values")
_LOOKED_AT = 20
_READERS: dict[Task, Reader] = {
    Task.SEMSEG: read_classes,
    Task.HUMAN_PARTS: read_classes,
    Task.NORMALS: read_normals,
    Task.DEPTH: read_depth,
}


def collect(root: Path, split: str) -> Collected:
    """See `layout.collect`."""
    photos = files_by_id(root / PHOTO_FOLDER, PHOTO_SUFFIXES)
    listed = read_list(root / SPLITS, split, photos, root / PHOTO_FOLDER)
    meta = read_meta(root / META_FILE, photos)
    labels = label_files(root)
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
        for name in listed.ids
    )
    problems = doubles(root / PHOTO_FOLDER, PHOTO_SUFFIXES) + listed.problems
    for task in Task:
        problems += doubles(root / task.value, (LABEL_SUFFIX,))
    own = read_class_files(root)
    declared = {task: CLASS_FILES[task] for task in own}
    dataset = PhotoDataset(root, split, records, {**VOC_LABELS, **own}, declared=declared)
    return Collected(dataset, problems, listed.notes)


def label_files(root: Path) -> dict[Task, dict[str, Path]]:
    """Labels of every task, by ID."""
    return {task: files_by_id(root / task.value, (LABEL_SUFFIX,)) for task in Task}


def orphans(root: Path) -> tuple[Finding, ...]:
    """Labels and rows of meta.csv that belong to no photo, and files beside labels that are none."""
    photos = files_by_id(root / PHOTO_FOLDER, PHOTO_SUFFIXES)
    found = []
    for task, labels in label_files(root).items():
        lost = tuple(f"{task.value}/{labels[name].name}" for name in sorted(labels.keys() - photos.keys()))
        if lost and photos:
            found.append(Finding(f"labels belong to no photo of {PHOTO_FOLDER}/", lost, _named(labels.keys(), photos)))
        found += _other_kinds(root / task.value)
    rows = tuple(repr(name) for name in read_meta(root / META_FILE, photos) if name not in photos)
    if rows:
        found.append(Finding(f"rows of {META_FILE} belong to no photo", rows))
    return tuple(found)


def read_meta(path: Path, photos: Collection[str]) -> dict[str, dict[str, str]]:
    """Rows of meta.csv by ID, with commas, semicolons or tabs between columns; empty without the file."""
    if not path.is_file():
        return {}
    text = read_text(path)
    first = text.partition("\n")[0]
    rows = list(csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=first.count)))
    if rows and "id" not in rows[0]:
        raise DataError(f"{path} has no column 'id', only {', '.join(map(str, rows[0]))}")
    return {resolve(row["id"], photos)[0] or row["id"]: row for row in rows}


def _named(labels: Set[str], photos: Collection[str]) -> str:
    """What to do where labels have their photos' names with an ending."""
    lost = sorted(labels - set(photos))[:_LOOKED_AT]
    longer = any(label.startswith(photo) for label in lost for photo in photos)
    return (
        "Labels have the names of their photos; `mtlora data import masks DIR OUT` takes off endings" if longer else ""
    )


def other_folders(root: Path) -> tuple[str, ...]:
    """Folders that are none of this layout: labels may lie there."""
    known = {PHOTO_FOLDER, SPLITS, *(task.value for task in Task)}
    return tuple(sorted(f"{path.name}/" for path in root.glob("*/") if path.name not in known))


def _mend(suffix: str) -> str:
    if suffix in _EXPORT_SUFFIXES:
        return "`mtlora data import auto DIR OUT` reads what labelling tools export"
    return AS_PNG


def _other_kinds(folder: Path) -> list[Finding]:
    """Files in a folder of labels that are not PNG files, and so no labels."""
    names: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = path.suffix.lower()
        if suffix in (*PHOTO_SUFFIXES, *_EXPORT_SUFFIXES) and suffix != LABEL_SUFFIX:
            names.setdefault(suffix, []).append(f"{folder.name}/{path.name}")
    return [
        Finding(f"files end in {suffix} and are not read: {_WHY.get(suffix, _PNG)}", tuple(files), _mend(suffix))
        for suffix, files in names.items()
    ]
