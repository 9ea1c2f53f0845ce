"""Reading of one record: photo and labels from files to arrays, at a common square side.

Photos are resized as the service resizes them (aspect ratio not kept); class maps, normals and depth with nearest
neighbour.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtlora.data.records import LabelArray, LabelSource
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

Uint8Array = NDArray[np.uint8]
MM_PER_M = 1000

CHANNELS = {Task.NORMALS: 3}
"""Channels of a stored label; one where not listed."""

IGNORE_VALUE = {Task.SEMSEG: IGNORE_INDEX, Task.HUMAN_PARTS: IGNORE_INDEX}
"""Value that says `unknown` in a label of a task; zero where not listed (saliency and edge have none)."""


def label_dtype(task: Task) -> type[np.unsignedinteger[Any]]:
    """Type of a task's stored labels; see `LabelArray`."""
    return np.uint16 if task is Task.DEPTH else np.uint8


def read_photo(path: Path, side: int) -> Uint8Array:
    """RGB photo resized to a square.

    returns: uint8 [3, side, side], 0..255, bicubic with antialiasing
    """
    with open_image(path) as image:
        resized = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of a photo in pixels, without decoding it."""
    with open_image(path, decode=False) as image:
        return image.size


def read_label(source: LabelSource, task: Task, side: int | None = None) -> LabelArray:
    """Label as stored values (see `LabelArray`), resized to a square, or at its own size where `side` is None.

    returns: [C, H, W], C = 3 for normals, else 1
    """
    array = source.load()
    if side is not None and array.shape[:2] != (side, side):
        soft = task in (Task.SALIENCY, Task.EDGE)
        how = Image.Resampling.BILINEAR if soft else Image.Resampling.NEAREST
        array = np.asarray(Image.fromarray(array).resize((side, side), how), dtype=label_dtype(task))
    return np.ascontiguousarray(array.transpose(2, 0, 1) if array.ndim == 3 else array[None])


def read_grey(path: Path) -> Uint8Array:
    """A PNG with one 8-bit channel (grey or palette): class indices, or 255 * p; uint8 [H, W]."""
    with open_image(path) as image:
        array = np.asarray(image)
    if array.ndim != 2 or array.dtype != np.uint8:
        raise DataError(f"{path}: this label must have one 8-bit channel, got {array.dtype} {array.shape}")
    return array


def read_normals(path: Path) -> Uint8Array:
    """A PNG of normals, uint8 [H, W, 3]."""
    with open_image(path) as image:
        if image.mode != "RGB":
            raise DataError(f"{path}: normals must be an RGB image, got mode {image.mode}")
        return np.asarray(image)


def read_depth(path: Path) -> NDArray[np.uint16]:
    """A 16-bit PNG of millimetres, uint16 [H, W]."""
    with open_image(path) as image:
        array = np.asarray(image)
    if array.ndim != 2 or array.dtype not in (np.uint16, np.int32):
        raise DataError(f"{path}: depth must have one 16-bit channel, got {array.dtype} {array.shape}")
    return array.clip(0, 2**16 - 1).astype(np.uint16)


def open_image(path: Path, *, decode: bool = True) -> Image.Image:
    """Open an image and decode it; `DataError` names the file."""
    try:
        image = Image.open(path)
        if decode:
            image.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    return image
