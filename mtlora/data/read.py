"""From files to arrays: photos and labels of one record, at a common square side.

Photos are resized as the service resizes them (aspect ratio not kept); class maps with nearest neighbour.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtlora.errors import DataError
from mtlora.tasks import IGNORE_INDEX, Task

Uint8Array = NDArray[np.uint8]
DEPTH_MM_PER_STEP = 64
"""Depth is cached in one byte: steps of 64 mm, up to 16 m; 0 = ignore."""

CHANNELS = {Task.NORMALS: 3}
"""Channels of a cached label; one where not listed."""

IGNORE_VALUE = {Task.SEMSEG: IGNORE_INDEX, Task.HUMAN_PARTS: IGNORE_INDEX}
"""Value that says `unknown` in a label of a task; zero where not listed (saliency and edge have none)."""


def read_photo(path: Path, side: int) -> Uint8Array:
    """RGB photo resized to a square.

    returns: uint8 [3, side, side], 0..255, bicubic with antialiasing
    """
    with _open(path) as image:
        resized = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of a photo in pixels, without decoding it."""
    with _open(path) as image:
        return image.size


def read_label(path: Path, task: Task, side: int | None = None) -> Uint8Array:
    """Label as stored values, resized to a square, or at its own size where `side` is None.

    returns: uint8 [C, H, W], C = 3 for normals ((n + 1) * 127.5), else 1;
             class index for semseg and human_parts, 255 * p for saliency and edge, steps of 64 mm for depth
    """
    with _open(path) as image:
        array = _plain(image, task, path)
    if side is not None and array.shape[:2] != (side, side):
        soft = task in (Task.SALIENCY, Task.EDGE)
        how = Image.Resampling.BILINEAR if soft else Image.Resampling.NEAREST
        array = np.asarray(Image.fromarray(array).resize((side, side), how))
    return np.ascontiguousarray(array.transpose(2, 0, 1) if array.ndim == 3 else array[None])


def _plain(image: Image.Image, task: Task, path: Path) -> Uint8Array:
    if task is Task.NORMALS:
        return np.asarray(image.convert("RGB"))
    if task is Task.DEPTH:
        millimetres = np.asarray(image).astype(np.int64)
        steps = np.clip(-(-millimetres // DEPTH_MM_PER_STEP), 0, 255)
        return steps.astype(np.uint8)
    array = np.asarray(image)
    if array.ndim != 2 or array.dtype != np.uint8:
        raise DataError(f"{path}: a {task} label must have one 8-bit channel, got {array.dtype} {array.shape}")
    return array


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
