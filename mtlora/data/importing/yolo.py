"""YOLO segmentation: `data.yaml`, and a text file for each photo with a polygon on each line."""

from pathlib import Path
from typing import Any

import numpy as np

from mtlora.data.importing.documents import MOST_TEXT_BYTES, read_lines, read_yaml, whole
from mtlora.data.importing.photos import SPLITS, FoundPhoto
from mtlora.data.importing.shapes import Export, LabelledPhoto, Overlap, Polygons, Shape, class_name
from mtlora.data.importing.source import Source
from mtlora.vocabulary.errors import DataError

NAME = "yolo"
SHOWN = "YOLO segmentation"
MOST_CLASSES = 10_000
_BOX_NUMBERS = 5
_FOLDERS = ("images", "labels")


def recognise(source: Source) -> bool:
    """Whether there is a YAML file that names classes."""
    return _configuration(source) is not None


def read(source: Source) -> Export:
    """Photos in folders `images`, and all others that have labels; one without labels is background all over."""
    path = _configuration(source)
    if path is None:
        raise DataError(f"{source.path} has no data.yaml with the names of the classes")
    document = read_yaml(path)
    names = _names(document["names"])
    export = Export(SHOWN, Overlap.SMALLER, classes=list(dict.fromkeys(names.values())))
    labels = {_key(place): place for place in source.named(lambda p: p.suffix.lower() == ".txt")}
    lists = _lists(source, document)
    for photo in source.photos:
        label = labels.get(_label_key(photo.path))
        is_listed = "images" in photo.name.split("/")[:-1] or photo.name in lists
        if label is None and not is_listed:
            continue
        try:
            shapes = _read_label(photo, label, names, export) if label is not None else ()
            split = lists.get(photo.name) or photo.split
            export.photos.append(LabelledPhoto(photo, *photo.size, shapes, split=split))
        except DataError as error:
            export.problems.append(f"{photo.name}: {error}")
    return export


def _configuration(source: Source) -> Path | None:
    for path in source.named(lambda p: p.suffix.lower() in {".yaml", ".yml"}):
        if path.stat().st_size > MOST_TEXT_BYTES:
            continue
        try:
            document = read_yaml(path)
        except DataError:
            continue
        if isinstance(document, dict) and isinstance(document.get("names"), list | dict):
            return path
    return None


def _names(found: Any) -> dict[int, str]:
    pairs = list(enumerate(found)) if isinstance(found, list) else list(found.items())
    if not 0 < len(pairs) <= MOST_CLASSES:
        raise DataError(f"data.yaml names {len(pairs)} classes; 1 to {MOST_CLASSES} are read")
    return {
        whole(index, "number of a class", most=MOST_CLASSES): class_name(name, "data.yaml") for index, name in pairs
    }


def _lists(source: Source, document: dict[str, Any]) -> dict[str, str]:
    """Splits by photo, where data.yaml names lists of photos instead of folders."""
    found = {}
    for key, split in SPLITS.items():
        value = document.get(key)
        if not isinstance(value, str) or not value.endswith(".txt"):
            continue
        tail = Path(value).name
        for path in source.named(lambda p, tail=tail: p.name == tail):  # type: ignore[misc]
            for line in read_lines(path):
                found[source.photos.find(line).name] = split
    return found


def _key(path: Path) -> str:
    return path.with_suffix("").as_posix()


def _label_key(photo: Path) -> str:
    """Where the labels of a photo lie: in `labels` in place of the last folder `images`, else beside it."""
    parts = list(photo.parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == _FOLDERS[0]:
            parts[at] = _FOLDERS[1]
            break
    return _key(Path(*parts))


def _read_label(photo: FoundPhoto, path: Path, names: dict[int, str], export: Export) -> tuple[Shape, ...]:
    width, height = photo.size
    shapes = []
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path.name} line {number}"
        try:
            values = np.array(line.split(), dtype=np.float64)
        except ValueError:
            raise DataError(f"{where} is no list of numbers: {line[:60]!r}") from None
        if len(values) == _BOX_NUMBERS:
            export.left_out["boxes, which are no outlines"] += 1
            continue
        if len(values) < _BOX_NUMBERS + 2 or len(values) % 2 == 0:
            raise DataError(f"{where}: a class and the x and y of three points or more, got {len(values)} numbers")
        index = whole(values[0], where)
        if index not in names:
            raise DataError(f"{where}: class {index} is not among the {len(names)} of data.yaml")
        ring = values[1:].reshape(-1, 2) * (width, height)
        shapes.append(Shape(names[index], Polygons((ring,))))
    return tuple(shapes)
