"""COCO JSON, as COCO itself, Roboflow, CVAT, Label Studio and others write it."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from mtlora.data.importing.documents import listed, read_json, whole
from mtlora.data.importing.photos import split_in
from mtlora.data.importing.shapes import Area, ColumnRuns, Export, LabelledPhoto, Overlap, Polygons, Shape, class_name
from mtlora.data.importing.source import Source
from mtlora.vocabulary.errors import DataError

NAME = "coco"
SHOWN = "COCO JSON"
_FOREGROUND, _CROWD = 1, 0  # layers: a crowd's rough outline lies below single objects


def recognise(source: Source) -> bool:
    """Whether there is a document of COCO's form."""
    return bool(source.documents(NAME))


def read(source: Source) -> Export:
    """All images of all documents. `DataError` where a document as a whole cannot be read."""
    export = Export(SHOWN, Overlap.SMALLER)
    paths = [path for path in source.documents(NAME) if not path.name.startswith(("captions", "person_keypoints"))]
    if not paths:
        raise DataError(f"{source.path} has no COCO document: a .json file with images, annotations and categories")
    for path in paths:
        _read_document(source, path, export)
    return export


def _read_document(source: Source, path: Path, export: Export) -> None:
    document = read_json(path)
    names = _names(listed(document, "categories", path.name), path.name)
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    annotations = listed(document, "annotations", path.name)
    for annotation in annotations:
        by_image[whole(annotation.get("image_id"), f"{path.name}: image_id of an annotation")].append(annotation)
    used = {str(annotation.get("category_id")) for annotation in annotations}
    for number in _real(document["categories"], used):
        export.add_class(names[number])
    split = split_in([*source.place(path).split("/"), *path.stem.replace("2017", "").replace("2014", "").split("_")])
    for image in listed(document, "images", path.name):
        try:
            export.photos.append(_read_image(source, path, export, image, by_image, names, split))
        except DataError as error:
            export.problems.append(f"{path.name}: image {str(image.get('file_name'))[:200]!r}: {error}")


def _names(categories: list[dict[str, Any]], where: str) -> dict[int, str]:
    return {
        whole(category.get("id"), f"{where}: id of a category"): class_name(category.get("name"), where)
        for category in categories
    }


def _real(categories: list[dict[str, Any]], used: set[str]) -> list[int]:
    """Ids in order, without what Roboflow puts first: an unused category that only stands above the others."""
    above = {str(category.get("supercategory")) for category in categories}
    real = [
        category
        for category in categories
        if str(category["id"]) in used or category.get("supercategory") != "none" or str(category["name"]) not in above
    ]
    return sorted(int(float(category["id"])) for category in real)


def _read_image(
    source: Source,
    path: Path,
    export: Export,
    image: dict[str, Any],
    by_image: dict[int, list[dict[str, Any]]],
    names: dict[int, str],
    split: str,
) -> LabelledPhoto:
    photo = source.photos.find(str(image.get("file_name", "")), source.place(path))
    width, height = (whole(image.get(key, 0), key, most=65_535) for key in ("width", "height"))
    shapes = []
    for annotation in by_image.get(whole(image.get("id"), "its id"), []):
        category = whole(annotation.get("category_id"), "category_id")
        if category not in names:
            raise DataError(f"category {category} is not among the document's {len(names)} categories")
        area = _area(annotation, (height, width) if width and height else photo.size[::-1], export)
        if area is not None:
            shapes.append(Shape(names[category], area, _CROWD if annotation.get("iscrowd") == 1 else _FOREGROUND))
    return LabelledPhoto(photo, width, height, tuple(shapes), split=split or photo.split)


def _area(annotation: dict[str, Any], size: tuple[int, int], export: Export) -> Area | None:
    """The area of an annotation; None where it has a box only, which is counted."""
    found = annotation.get("segmentation")
    if isinstance(found, dict):
        return _runs(found, size)
    if not isinstance(found, list) or not found:
        export.left_out["boxes, which are no outlines" if annotation.get("bbox") else "annotations without area"] += 1
        return None
    rings = found if isinstance(found[0], list) else [found]
    kept = [ring for ring in rings if isinstance(ring, list) and len(ring) >= 6]
    if len(kept) < len(rings):
        export.left_out["polygons of fewer than three points"] += len(rings) - len(kept)
    return Polygons(tuple(_ring(ring) for ring in kept)) if kept else None


def _ring(values: list[Any]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    try:
        return np.array(values, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"a polygon is a list of numbers, x and y in turn, got {str(values)[:60]}") from None


def _runs(found: dict[str, Any], size: tuple[int, int]) -> ColumnRuns:
    counts = found.get("counts")
    sides = found.get("size", list(size))
    if not isinstance(sides, list) or len(sides) != 2:
        raise DataError(f"the size of run lengths is a list of height and width, got {str(sides)[:60]!r}")
    height, width = sides
    if isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        return ColumnRuns(counts, whole(height, "height of run lengths"), whole(width, "width of run lengths"))
    if isinstance(counts, str):
        return ColumnRuns(counts, whole(height, "height of run lengths"), whole(width, "width of run lengths"))
    raise DataError(f"run lengths are text or a list of whole numbers, got {str(counts)[:60]!r}")
