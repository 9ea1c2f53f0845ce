"""Folders of masks beside folders of photos: class indices, 0 and 255, colours, Cityscapes' label ids."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlora.data.importing import cityscapes
from mtlora.data.importing.mask_files import (
    MASK_SUFFIXES,
    Colour,
    MaskFile,
    by_colour,
    read_colour_table,
    read_labelmap,
    read_mask,
    read_value_table,
    values_of,
)
from mtlora.data.importing.photos import SPLITS, FoundPhoto
from mtlora.data.importing.shapes import Export, LabelledPhoto, Overlap
from mtlora.data.importing.source import Source
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX

NAME = "masks"
SHOWN = "a folder of masks"
FOLDERS = frozenset({
    "mask", "masks", "label", "labels", "annotation", "annotations", "gt", "gts", "ground_truth", "groundtruth", "seg",
    "segs", "segmentation", "segmentations", "segmentationclass", "segmentationclassraw", "semseg", "labelids",
    "gtfine", "gtcoarse", "png", "saliency",
})  # fmt: skip
"""What folders of masks are called, in small letters."""
ENDINGS = ("_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_gt", "_segmentation", *cityscapes.ENDINGS)
"""What stands behind a photo's name in the name of its mask."""
MOST_LEVELS = 64
"""More levels of grey than these are no classes."""
_LOW, _HIGH, _MIDDLE = 32, 223, 128
_BINARY = 0.98  # of the pixels are nearly 0 or nearly 255: a mask that went through JPEG

_Labels = NDArray[np.uint8]
_Reader = Callable[[MaskFile, str], _Labels]


def recognise(source: Source) -> bool:
    """Whether some photo has a mask."""
    return bool(_pairs(source))


def read(source: Source) -> Export:
    """All photos that have a mask. Every mask is looked at first: together they say how they are to be read."""
    pairs = _pairs(source)
    if not pairs:
        raise DataError(
            f"{source.path} has no masks: a folder such as masks/ beside images/ with files of the photos' names, "
            "or NAME_mask.png beside NAME.jpg"
        )
    export = Export(SHOWN, Overlap.NONE)
    looked = _look(pairs, export)
    reader = _reader(source, looked, export)
    for photo, path in pairs:
        export.photos.append(LabelledPhoto(photo, ready=partial(_labels, path, reader), split=photo.split))
    return export


def _labels(path: Path, reader: _Reader) -> _Labels:
    return reader(read_mask(path), path.name)


def _pairs(source: Source) -> list[tuple[FoundPhoto, Path]]:
    files = [path for path in source.named(lambda p: p.suffix.lower() in MASK_SUFFIXES) if _is_mask(source, path)]
    label_ids = [path for path in files if path.stem.endswith(cityscapes.ENDINGS)]
    files = label_ids or files
    masks = set(files)
    photos: dict[str, list[FoundPhoto]] = defaultdict(list)
    for photo in source.photos:
        if photo.path not in masks and not _is_mask(source, photo.path):
            photos[photo.path.stem.removesuffix(cityscapes.PHOTO_ENDING)].append(photo)
    found: dict[str, tuple[FoundPhoto, Path]] = {}
    for path in files:
        alike = photos.get(_stem(path), [])
        if alike:
            photo = max(alike, key=lambda one: _likeness(one.name.split("/")[:-1], source.place(path).split("/")))
            found.setdefault(photo.name, (photo, path))
    return [found[name] for name in sorted(found)]


def _is_mask(source: Source, path: Path) -> bool:
    if path.stem.endswith(ENDINGS):
        return True
    if not path.is_relative_to(source.root):
        return False
    return any(part.lower() in FOLDERS for part in path.relative_to(source.root).parts[:-1])


def _stem(path: Path) -> str:
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if path.stem.endswith(ending):
            return path.stem.removesuffix(ending)
    return path.stem


def _likeness(one: Sequence[str], other: Sequence[str]) -> int:
    """Folders that two paths have in common; the words for splits count more."""
    common = set(one) & set(other)
    return len(common) + sum(len(one) for part in common if part.lower() in SPLITS)


class _Looked:
    """What all masks together have: levels of grey (files by level), colours, palettes."""

    def __init__(self) -> None:
        self.levels: Counter[int] = Counter()
        self.is_colour = False
        self.has_palette = False
        self.nearly_binary = True
        self.ends = False  # some pixel is nearly 255


def _look(pairs: list[tuple[FoundPhoto, Path]], export: Export) -> _Looked:
    looked = _Looked()
    for photo, path in list(pairs):
        try:
            mask = read_mask(path)
        except DataError as error:
            export.problems.append(str(error))
            pairs.remove((photo, path))
            continue
        if mask.is_colour:
            looked.is_colour = True
            continue
        counts = np.bincount(mask.values.ravel(), minlength=256)
        looked.levels.update(np.flatnonzero(counts).tolist())
        looked.has_palette = looked.has_palette or bool(mask.palette)
        ends = counts[: _LOW + 1].sum() + counts[_HIGH:].sum()
        looked.nearly_binary = looked.nearly_binary and ends >= _BINARY * counts.sum()
        looked.ends = looked.ends or bool(counts[_HIGH:].any())
    return looked


def _reader(source: Source, looked: _Looked, export: Export) -> _Reader:
    """How these masks are read; sets the export's classes."""
    colours = _colours(source)
    if colours:
        export.classes, table = values_of(colours)
        return partial(_by_colour, table=table)
    if looked.is_colour:
        raise DataError(
            f"the masks of {source.path} are coloured, and nothing says which colour is which class: put a "
            "class_dict.csv (a head, then name,r,g,b) or a labelmap.txt (name:r,g,b::) there"
        )
    if any(path.stem.endswith(cityscapes.ENDINGS) for _, path in _pairs(source)) and not source.classes:
        export.classes = list(cityscapes.TRAINED.values())
        return _cityscapes
    levels = set(looked.levels)
    many = len(levels) > MOST_LEVELS
    if source.soft and (many or (levels <= {0, 255} and not looked.has_palette)):
        export.soft = True
        return _as_it_is
    if _is_binary(levels, looked):
        export.classes = list(source.classes) or ["background", "foreground"]
        export.notes.append(f"masks of 0 and 255: 255 is class 1, {export.classes[1:2] or 'which has no name'}")
        return _binary
    if many:
        raise DataError(
            f"the masks of {source.path} have {len(levels)} levels of grey: class indices were expected, 0 for the "
            "background; JPEG changes levels: export PNG. For soft masks: --task saliency"
        )
    export.classes = _names(source, levels)
    return partial(_indices, classes=len(export.classes))


def _is_binary(levels: set[int], looked: _Looked) -> bool:
    if looked.has_palette or not looked.ends:
        return False
    return levels <= {0, 255} or (len(levels) > 2 and looked.nearly_binary and not levels <= {*range(_LOW + 1), 255})


def _colours(source: Source) -> dict[str, Colour]:
    for path in source.named(lambda p: p.name in {"class_dict.csv", "labelmap.txt"}):
        return read_labelmap(path) if path.suffix == ".txt" else read_colour_table(path)
    return {}


def _names(source: Source, levels: set[int]) -> list[str]:
    """Names of the values 0, 1, …: the user's, Roboflow's list, or numbers."""
    if source.classes:
        return list(source.classes)
    found: dict[int, str] = {}
    for path in source.named(lambda p: p.name == "_classes.csv"):
        found |= read_value_table(path)
    last = max([*found, *(level for level in levels if level != IGNORE_INDEX)], default=0)
    return [found.get(value, f"class-{value}" if value else "background") for value in range(last + 1)]


def _by_colour(mask: MaskFile, where: str, table: dict[Colour, int]) -> _Labels:
    return by_colour(mask, table, where)


def _cityscapes(mask: MaskFile, _: str) -> _Labels:
    return np.array([cityscapes.value_of(label) for label in range(256)], np.uint8)[mask.values]


def _as_it_is(mask: MaskFile, _: str) -> _Labels:
    return mask.values


def _binary(mask: MaskFile, _: str) -> _Labels:
    return (mask.values >= _MIDDLE).astype(np.uint8)


def _indices(mask: MaskFile, where: str, classes: int) -> _Labels:
    beyond = mask.values[(mask.values >= classes) & (mask.values != IGNORE_INDEX)]
    if beyond.size:
        raise DataError(f"{where} has class {beyond.max()}, but there are names for 0 to {classes - 1} only")
    return mask.values
