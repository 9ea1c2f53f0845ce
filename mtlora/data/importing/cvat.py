"""CVAT's XML 1.1 for images: polygons, ellipses and masks in layers."""

from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from mtlora.annotations.box_runs import filled
from mtlora.data.importing.documents import read_xml, whole
from mtlora.data.importing.shapes import Area, Box, Export, LabelledPhoto, Overlap, Polygons, Shape, class_name
from mtlora.data.importing.source import Source
from mtlora.vocabulary.errors import DataError

NAME = "cvat"
SHOWN = "CVAT XML 1.1"
ELLIPSE_POINTS = 180
_LEFT_OUT = {
    "box": "boxes, which are no outlines",
    "cuboid": "cuboids",
    "polyline": "polylines, which have no area",
    "points": "points, which have no area",
    "skeleton": "skeletons, which have no area",
    "tag": "tags of whole photos",
}


def recognise(source: Source) -> bool:
    """Whether there is an XML file that begins as CVAT's."""
    return bool(_paths(source))


def read(source: Source) -> Export:
    """Every image of every document."""
    export = Export(SHOWN, Overlap.LAYERS)
    paths = _paths(source)
    if not paths:
        raise DataError(f"{source.path} has no CVAT document: an .xml file whose root is <annotations>")
    for path in paths:
        root = read_xml(path)
        if root.find("track") is not None:
            raise DataError(f"{path.name} is CVAT's XML for video; export the task as 'CVAT for images 1.1'")
        for label in root.iterfind(".//labels/label/name"):
            export.add_class(class_name(label.text, path.name))
        for image in root.iterfind("image"):
            try:
                export.photos.append(_read_image(source, path, image, export))
            except DataError as error:
                export.problems.append(f"{path.name}: image {image.get('name', '')[:200]!r}: {error}")
    return export


def _paths(source: Source) -> list[Path]:
    found = []
    for path in source.named(lambda p: p.suffix.lower() == ".xml"):
        with path.open("rb") as file:
            if b"<annotations>" in file.read(4096):
                found.append(path)
    return found


def _read_image(source: Source, path: Path, image: Element, export: Export) -> LabelledPhoto:
    photo = source.photos.find(image.get("name", ""), source.place(path))
    width, height = (whole(image.get(key), key, 1, 65_535) for key in ("width", "height"))
    shapes = []
    for element in image:
        if element.tag in _LEFT_OUT:
            export.left_out[_LEFT_OUT[element.tag]] += 1
            continue
        area = _area(element)
        if area is None:
            export.left_out[f"elements <{element.tag[:40]}>"] += 1
            continue
        name = class_name(element.get("label"), path.name)
        export.add_class(name)
        shapes.append(Shape(name, area, whole(element.get("z_order", 0), "z_order", least=-(10**9))))
    split = {"train": "train", "validation": "val", "test": "test"}.get(image.get("subset", "").lower(), "")
    return LabelledPhoto(photo, width, height, tuple(shapes), split=split or photo.split)


def _area(element: Element) -> Area | None:
    if element.tag == "polygon":
        return Polygons((_points(element.get("points", "")),))
    if element.tag == "mask":
        return _mask(element)
    if element.tag == "ellipse":
        return Polygons((_ellipse(element),))
    return None


def _points(text: str) -> NDArray[np.float64]:
    try:
        points = [[float(value) for value in pair.split(",")] for pair in text.split(";")]
        return np.array(points, dtype=np.float64).reshape(-1, 2)
    except ValueError:
        raise DataError(f"points are written 'x,y;x,y;…', got {text[:60]!r}") from None


def _mask(element: Element) -> Box:
    left, top = (whole(element.get(key), f"{key} of a mask", most=65_535) for key in ("left", "top"))
    width, height = (whole(element.get(key), f"{key} of a mask", 1, 65_535) for key in ("width", "height"))
    text = element.get("rle", "")
    try:
        counts = np.array(text.split(","), dtype=np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"run lengths of a mask are whole numbers with commas between, got {text[:60]!r}") from None
    return Box(left, top, width, height, partial(_pixels, counts, height, width))


def _pixels(counts: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    return filled(counts, height * width).reshape(height, width)


def _ellipse(element: Element) -> NDArray[np.float64]:
    try:
        x, y, rx, ry, turn = (float(element.get(key, "0")) for key in ("cx", "cy", "rx", "ry", "rotation"))
    except ValueError:
        raise DataError("an ellipse has the numbers cx, cy, rx and ry") from None
    if not np.isfinite([x, y, rx, ry, turn]).all():
        raise DataError(f"an ellipse has finite numbers, got {x}, {y}, {rx}, {ry} and the rotation {turn}")
    angles = np.arange(ELLIPSE_POINTS) * (2 * np.pi / ELLIPSE_POINTS)
    along, across, turned = rx * np.cos(angles), ry * np.sin(angles), np.deg2rad(turn)
    return np.stack(
        [
            x + along * np.cos(turned) - across * np.sin(turned),
            y + along * np.sin(turned) + across * np.cos(turned),
        ],
        axis=1,
    )
