"""LabelMe's JSON files, one beside each photo."""

import base64
import binascii
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.data.importing.documents import listed, read_json, whole
from mtlora.data.importing.shapes import Area, Box, Export, LabelledPhoto, Overlap, Polygons, Shape, class_name
from mtlora.data.importing.source import Source
from mtlora.vocabulary.errors import DataError

NAME = "labelme"
SHOWN = "LabelMe JSON"
CIRCLE_POINTS = 180
_DRAWN = ("polygon", "rectangle", "circle", "mask")


def recognise(source: Source) -> bool:
    """Whether there is a document of LabelMe's form."""
    return bool(source.documents(NAME))


def read(source: Source) -> Export:
    """Every photo that has a document."""
    export = Export(SHOWN, Overlap.LATER)
    paths = source.documents(NAME)
    if not paths:
        raise DataError(f"{source.path} has no LabelMe document: a .json file with shapes and imagePath")
    for path in paths:
        try:
            export.photos.append(_read_document(source, path, export))
        except DataError as error:
            where = "" if path.name in str(error) else f"{path.name}: "
            export.problems.append(f"{where}{error}")
    export.sort_classes()
    return export


def _read_document(source: Source, path: Path, export: Export) -> LabelledPhoto:
    document = read_json(path)
    shapes = []
    for shape in listed(document, "shapes", path.name):
        kind = shape.get("shape_type") or "polygon"
        if kind not in _DRAWN:
            export.left_out[f"shapes of type {str(kind)[:40]}, which have no area"] += 1
            continue
        name = class_name(shape.get("label"), path.name)
        area = _area(kind, shape)
        if area is None:
            export.left_out["polygons of fewer than three points"] += 1
            continue
        export.add_class(name)
        shapes.append(Shape(name, area))
    photo = source.photos.find(str(document.get("imagePath") or path.stem), source.place(path))
    width, height = (whole(document.get(key) or 0, key, most=65_535) for key in ("imageWidth", "imageHeight"))
    return LabelledPhoto(photo, width, height, tuple(shapes), split=photo.split)


def _area(kind: str, shape: dict[str, Any]) -> Area | None:
    points = _points(shape.get("points"))
    if kind == "polygon":
        return Polygons((points,)) if len(points) > 2 else None
    if len(points) != 2:
        raise DataError(f"a {kind} has two points, got {len(points)}")
    if kind == "mask":
        return _mask(points, shape.get("mask"))
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        return Polygons((np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),))
    angles = np.arange(CIRCLE_POINTS) * (2 * np.pi / CIRCLE_POINTS)
    radius = np.hypot(x1 - x0, y1 - y0)
    return Polygons((np.stack([x0 + radius * np.cos(angles), y0 + radius * np.sin(angles)], axis=1),))


def _points(found: Any) -> NDArray[np.float64]:
    try:
        points = np.array(found, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"points are a list of [x, y], got {str(found)[:60]}") from None
    if not np.isfinite(points).all():
        raise DataError(f"points are finite numbers, got {str(found)[:60]}")
    return points


def _mask(points: NDArray[np.float64], text: Any) -> Box:
    """A mask within its box; the second point is the last pixel."""
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise DataError("a mask is a PNG as base64") from None
    (left, top), (right, bottom) = np.round(points).clip(-1, 10**6).astype(int).tolist()
    width, height = right - left + 1, bottom - top + 1
    return Box(left, top, width, height, partial(_png, data, width, height))


def _png(data: bytes, width: int, height: int) -> NDArray[np.bool_]:
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        if image.size != (width, height):
            raise DataError(f"a mask's PNG has {image.size[0]} x {image.size[1]} pixels, its box {width} x {height}")
        return np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"a mask's PNG cannot be read: {error}") from error
