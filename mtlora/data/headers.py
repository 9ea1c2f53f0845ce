"""Sizes of label files, without reading them whole."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mtlora.vocabulary.errors import DataError

_PNG_START = b"\x89PNG\r\n\x1a\n"
_DEPTH_AT, _COLOURS_AT, _HEADER_BYTES = 24, 25, 26
_GREY = 0
_LOSSY = {"JPEG", "MPO"}


def header_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image or a `.npy` array; None for other files."""
    if path.suffix.lower() == ".npy":
        return _array_size(path)
    if path.suffix.lower() != ".png":
        return None
    with open_image(path, decode=False) as image:
        return image.size


def open_image(path: Path, *, decode: bool = True) -> Image.Image:
    """Open a label's image and decode it; `DataError` names the file, or says that it is a JPEG under another name."""
    try:
        image = Image.open(path)
        if decode:
            image.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    if decode and image.format in _LOSSY:
        raise DataError(f"{path}: a JPEG file under another name; JPEG changes the values of labels")
    return image


def packed_grey_bits(path: Path) -> int:
    """2 or 4 for a grey PNG of so many bits a pixel, whose values decoders stretch to 0..255; else 0."""
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    if not start.startswith(_PNG_START) or len(start) < _HEADER_BYTES or start[_COLOURS_AT] != _GREY:
        return 0
    return start[_DEPTH_AT] if start[_DEPTH_AT] in (2, 4) else 0


def _array_size(path: Path) -> tuple[int, int] | None:
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array: {error}") from error
    return (shape[1], shape[0]) if len(shape) > 1 else None
