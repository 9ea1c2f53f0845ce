"""Mask files: class indices, palettes, colours."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtlora.data.importing.documents import MOST_TEXT_BYTES, read_lines
from mtlora.data.importing.shapes import class_name, is_background, is_ignore
from mtlora.images.opening import DEFAULT_MAX_PIXELS
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX

MASK_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_SHOWN_COLOURS = 5
_MOST_INDEX = 255

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class MaskFile:
    """A mask as it is stored.

    values:  uint8 [H, W], indices or levels of grey; of a colour mask uint8 [H, W, 3]
    palette: colours of the indices, where the file has them
    """

    values: NDArray[np.uint8]
    palette: tuple[Colour, ...] = ()

    @property
    def is_colour(self) -> bool:
        """Whether pixels are colours, not numbers."""
        return self.values.ndim == 3


def read_mask(path: Path) -> MaskFile:
    """A mask from a file; colours that are all grey are levels of grey. `DataError` where it is none."""
    try:
        image = Image.open(path, formats=_FORMATS)
        if image.width * image.height > DEFAULT_MAX_PIXELS:
            raise DataError(f"{path} has {image.width} x {image.height} pixels; {DEFAULT_MAX_PIXELS} are read")
        image.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a mask: {error}") from error
    if image.mode == "P":
        flat = image.getpalette("RGB") or []
        colours = tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3))
        return MaskFile(np.asarray(image), colours)
    if image.mode in {"1", "L"}:
        return MaskFile(np.asarray(image.convert("L")))
    if image.mode.startswith("I"):
        return MaskFile(_narrow(np.asarray(image), path))
    rgb = np.asarray(image.convert("RGB"))
    grey = rgb[:, :, 0]
    return MaskFile(grey if (rgb == grey[:, :, None]).all() else rgb)


def _narrow(values: NDArray[np.int32], path: Path) -> NDArray[np.uint8]:
    if values.size and (values.min() < 0 or values.max() > _MOST_INDEX):
        raise DataError(f"{path} has values up to {values.max()}; class indices end at {_MOST_INDEX - 1}")
    return values.astype(np.uint8)


def by_colour(mask: MaskFile, table: Mapping[Colour, int], where: str) -> NDArray[np.uint8]:
    """A mask by the colours of its pixels or of its palette: uint8 [H, W]; `DataError` names colours nobody knows."""
    if not mask.is_colour:
        shown = mask.palette or tuple((level, level, level) for level in range(256))
        used = np.flatnonzero(np.bincount(mask.values.ravel(), minlength=256))
        lookup = np.zeros(256, np.uint8)
        unknown: list[tuple[int, ...]] = []
        for index in used.tolist():
            colour = shown[index] if index < len(shown) else (index, index, index)
            if colour not in table and index != IGNORE_INDEX:
                unknown.append(colour)
            lookup[index] = table.get(colour, IGNORE_INDEX)
        _refuse(unknown, table, where)
        return lookup[mask.values]
    codes = mask.values.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, places = np.unique(codes, return_inverse=True)
    by_code = {red << 16 | green << 8 | blue: value for (red, green, blue), value in table.items()}
    _refuse([_colour(int(code)) for code in found if int(code) not in by_code], table, where)
    return np.array([by_code[int(code)] for code in found], np.uint8)[places].reshape(codes.shape)


def _colour(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def _refuse(unknown: Sequence[tuple[int, ...]], table: Mapping[Colour, int], where: str) -> None:
    if unknown:
        some = ", ".join(map(str, unknown[:_SHOWN_COLOURS]))
        raise DataError(
            f"{where} has {len(unknown)} colours that the list of colours does not have, such as {some}; it has "
            f"{len(table)}. A mask that was saved as JPEG, or made smaller, has colours in between: export PNG"
        )


def read_labelmap(path: Path) -> dict[str, Colour]:
    """Colours by class name of a `labelmap.txt`: lines `name:r,g,b:parts:actions`."""
    found: dict[str, Colour] = {}
    for line in read_lines(path, MOST_TEXT_BYTES):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        found[class_name(name, path.name)] = _parse_colour(rest.partition(":")[0].split(","), f"{path.name}: {line!r}")
    return found


def read_colour_table(path: Path) -> dict[str, Colour]:
    """Colours by class name of a `class_dict.csv`: a head, then lines `name,r,g,b`."""
    rows = list(csv.reader(read_lines(path, MOST_TEXT_BYTES)))
    return {class_name(row[0], path.name): _parse_colour(row[1:4], f"{path.name}: {row}") for row in rows[1:] if row}


def read_value_table(path: Path) -> dict[int, str]:
    """Class names by value of Roboflow's `_classes.csv`: a head, then lines `value, name`."""
    rows = list(csv.reader(read_lines(path, MOST_TEXT_BYTES)))
    found: dict[int, str] = {}
    for row in rows[1:]:
        if len(row) < 2 or not row[0].strip().isdigit() or int(row[0]) >= IGNORE_INDEX:
            raise DataError(f"{path.name}: lines are a value from 0 to 254, a comma, a class name; got {row}")
        found[int(row[0])] = class_name(row[1], path.name)
    return found


def values_of(colours: Mapping[str, Colour]) -> tuple[list[str], dict[Colour, int]]:
    """Class names by value, the background first where there is one, and the value of each colour."""
    names = [name for name in colours if not is_ignore(name)]
    names.sort(key=lambda name: not is_background(name))  # stable: the others keep their order
    if len(names) > IGNORE_INDEX:
        raise DataError(f"{len(names)} classes with a colour; {IGNORE_INDEX} are the most")
    table = {colour: IGNORE_INDEX if is_ignore(name) else names.index(name) for name, colour in colours.items()}
    return names, table


def _parse_colour(values: list[str], where: str) -> Colour:
    try:
        red, green, blue = (int(value) for value in values)
    except ValueError:
        raise DataError(f"{where}: a colour is three numbers from 0 to 255") from None
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise DataError(f"{where}: a colour is three numbers from 0 to 255")
    return red, green, blue
