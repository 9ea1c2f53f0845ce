"""PASCAL VOC: `SegmentationClass` with palettes or colours; XML with polygons, as Roboflow writes it."""

from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from mtlora.data.importing.documents import MOST_TEXT_BYTES, read_lines, read_xml, whole
from mtlora.data.importing.mask_files import Colour, by_colour, read_labelmap, read_mask, values_of
from mtlora.data.importing.photos import FoundPhoto, split_in
from mtlora.data.importing.shapes import Export, LabelledPhoto, Overlap, Polygons, Shape, class_name
from mtlora.data.importing.source import Source
from mtlora.data.lists import PHOTO_SUFFIXES
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, VOC_CLASSES

NAME = "voc"
SHOWN = "PASCAL VOC"
MASKS = "SegmentationClass"
LABELMAP = "labelmap.txt"
_HEAD_BYTES = 4096


def recognise(source: Source) -> bool:
    """Whether there is a folder of class masks, or an XML file that begins as VOC's."""
    return any(_masks(source)) or any(_xml_files(source))


def read(source: Source) -> Export:
    """Photos with masks; where there are none, photos with polygons in XML. `DataError` where there are boxes only."""
    masks = list(_masks(source))
    return _read_masks(source, masks) if masks else _read_xml_files(source)


def _masks(source: Source) -> list[Path]:
    return list(source.named(lambda p: p.parent.name == MASKS and p.suffix.lower() == ".png"))


def _xml_files(source: Source) -> list[Path]:
    found = []
    for path in source.named(lambda p: p.suffix.lower() == ".xml"):
        with path.open("rb") as file:
            if b"<annotation>" in file.read(_HEAD_BYTES):
                found.append(path)
    return found


def _read_masks(source: Source, masks: list[Path]) -> Export:
    export = Export(SHOWN, Overlap.NONE)
    colours = {path.parent: read_labelmap(path) for path in source.named(lambda p: p.name == LABELMAP)}
    table: dict[Colour, int] | None = None
    export.classes = list(VOC_CLASSES)
    if colours:
        export.classes, table = values_of({name: c for found in colours.values() for name, c in found.items()})
    splits = _splits(source)
    for path in masks:
        try:
            photo = _photo(source, path)
            split = splits.get(path.stem) or photo.split
            export.photos.append(LabelledPhoto(photo, ready=partial(_labels, path, table), split=split))
        except DataError as error:
            export.problems.append(f"{MASKS}/{path.name}: {error}")
    return export


def _photo(source: Source, mask: Path) -> FoundPhoto:
    for suffix in PHOTO_SUFFIXES:
        try:
            return source.photos.find(f"JPEGImages/{mask.stem}{suffix}", source.place(mask.parent))
        except DataError:
            continue
    raise DataError(f"its photo JPEGImages/{mask.stem}.jpg is not there; where photos lie elsewhere: --photos")


def _labels(path: Path, table: dict[Colour, int] | None) -> NDArray[np.uint8]:
    mask = read_mask(path)
    if table is not None:
        return by_colour(mask, table, path.name)
    if mask.is_colour:
        raise DataError(f"{path.name} has colours in place of a palette, and there is no {LABELMAP} that lists them")
    beyond = int(mask.values[mask.values != IGNORE_INDEX].max(initial=0))
    if beyond >= len(VOC_CLASSES):
        raise DataError(f"{path.name} has class {beyond}; VOC has {len(VOC_CLASSES)}, and there is no {LABELMAP}")
    return mask.values


def _splits(source: Source) -> dict[str, str]:
    """Splits by photo, from the lists in ImageSets/Segmentation; `trainval` is none."""
    found: dict[str, str] = {}
    for path in source.named(lambda p: p.parent.name == "Segmentation" and p.suffix == ".txt"):
        split = split_in([path.stem])
        if split:
            found |= {Path(line).stem: split for line in read_lines(path, 64 * MOST_TEXT_BYTES)}
    return found


def _read_xml_files(source: Source) -> Export:
    export = Export(SHOWN, Overlap.LATER)
    paths = _xml_files(source)
    if not paths:
        raise DataError(f"{source.path} has no {MASKS}/ with masks, and no .xml file whose root is <annotation>")
    for path in paths:
        root = read_xml(path)
        try:
            photo = source.photos.find(root.findtext("filename") or path.stem, source.place(path))
            shapes = _shapes(root, path, export)
            width, height = (whole(root.findtext(f"size/{key}") or 0, key) for key in ("width", "height"))
            export.photos.append(LabelledPhoto(photo, width, height, shapes, split=photo.split))
        except DataError as error:
            export.problems.append(f"{path.name}: {error}")
    export.sort_classes()
    return export


def _shapes(root: Element, path: Path, export: Export) -> tuple[Shape, ...]:
    shapes = []
    for item in root.iterfind("object"):
        polygon = item.find("polygon")
        if polygon is None:
            export.left_out["boxes, which are no outlines"] += 1
            continue
        name = class_name(item.findtext("name"), path.name)
        export.add_class(name)
        shapes.append(Shape(name, Polygons((_ring(polygon),))))
    return tuple(shapes)


def _ring(polygon: Element) -> NDArray[np.float64]:
    try:
        numbers = {child.tag: float(child.text or "") for child in polygon}
        count = len(numbers) // 2
        return np.array([[numbers[f"x{i}"], numbers[f"y{i}"]] for i in range(1, count + 1)], np.float64)
    except (ValueError, KeyError) as error:
        raise DataError(f"a polygon has x1, y1, x2, y2, …, and one here has not: {error}") from None
