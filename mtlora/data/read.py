"""Reading of labels, from files to arrays, at a common square side (aspect ratio not kept).

Class maps, normals and depth are resized with nearest neighbour, saliency and edges bilinearly.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.data.headers import open_image, packed_grey_bits
from mtlora.data.records import LabelArray, LabelSource
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

Uint8Array = NDArray[np.uint8]

MM_PER_M = 1000
PEAK = 255
FARTHEST_MM = 2**16 - 1
"""What 16 bits hold at most, and where cameras write that they saw nothing: never a depth."""

CHANNELS = {Task.NORMALS: 3}
"""Channels of a stored label; one where not listed."""

_KINDS = {
    **dict.fromkeys(("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"), "a colour image"),
    **dict.fromkeys(("LA", "La", "PA"), "an image with transparency"),
    **dict.fromkeys(("I;16", "I;16B", "I;16L", "I", "F"), "an image of more than 8 bits"),
}

IGNORE_VALUE = {Task.SEMSEG: IGNORE_INDEX, Task.HUMAN_PARTS: IGNORE_INDEX}
"""Value that says `unknown` in a label of a task; zero where not listed (saliency and edge have none)."""


def label_dtype(task: Task) -> type[np.unsignedinteger[Any]]:
    """Type of a task's stored labels; see `LabelArray`."""
    return np.uint16 if task is Task.DEPTH else np.uint8


def read_label(source: LabelSource, task: Task, side: int | None = None) -> LabelArray:
    """Label as stored values (see `LabelArray`), resized to a square, or at its own size where `side` is None.

    Depth at the largest value is not known, so 0.
    returns: [C, H, W], C = 3 for normals, else 1
    """
    array = source.load()
    if task is Task.DEPTH:
        array = np.where(array == FARTHEST_MM, 0, array).astype(np.uint16)
    if side is not None and array.shape[:2] != (side, side):
        soft = task in (Task.SALIENCY, Task.EDGE)
        how = Image.Resampling.BILINEAR if soft else Image.Resampling.NEAREST
        array = np.asarray(Image.fromarray(array).resize((side, side), how), dtype=label_dtype(task))
    return np.ascontiguousarray(array.transpose(2, 0, 1) if array.ndim == 3 else array[None])


def read_classes(path: Path) -> Uint8Array:
    """A PNG of class indices, grey or palette, of 1 to 8 bits; uint8 [H, W]."""
    found = _one_channel(path)
    if found.dtype == np.bool_:
        return found.astype(np.uint8)
    bits = packed_grey_bits(path)
    return found // (PEAK // (2**bits - 1)) if bits else found


def read_grey(path: Path) -> Uint8Array:
    """A PNG with one channel of at most 8 bits: 255 * p; uint8 [H, W]."""
    found = _one_channel(path)
    return found.astype(np.uint8) * PEAK if found.dtype == np.bool_ else found


def _one_channel(path: Path) -> NDArray[Any]:
    with open_image(path) as image:
        mode, array = image.mode, np.asarray(image)
    if array.ndim != 2 or array.dtype not in (np.uint8, np.bool_):
        found = f"{array.dtype} {array.shape}: {_KINDS.get(mode, 'an image')} (mode {mode})"
        raise DataError(f"{path}: this label must have one 8-bit channel, got {found}")
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
    return array.clip(0, FARTHEST_MM).astype(np.uint16)
