"""The resize of a photo to the model's square: bicubic, with antialiasing or as published without.

Both look at the photo some rows at a time, so what they take does not depend on its size or shape.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.images.photo import BAND_PIXELS, Photo
from mtlora.kernels import Kernels
from mtlora.kernels.interface import CUBIC, CUBIC_TAPS, PIXEL_BYTES, LevelsLayout
from mtlora.vocabulary.errors import ImageError

_CUBIC = np.float32(CUBIC)
_VALUES = 256

Square = NDArray[np.float32]
Three = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Levels:
    """What becomes of each colour's value on the scale 0..255: times `scale`, then plus `shift`."""

    scale: Three = (1.0, 1.0, 1.0)
    shift: Three = (0.0, 0.0, 0.0)

    @classmethod
    def normalising(cls, mean: Sequence[float], std: Sequence[float]) -> "Levels":
        """/255, minus mean, over std."""
        red, green, blue = (
            (1 / (255 * deviation), -middle / deviation) for middle, deviation in zip(mean, std, strict=True)
        )
        return cls((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))

    def table(self) -> NDArray[np.float32]:
        """What becomes of each whole value, float32 [3, 256]."""
        scale, shift = (np.array(three, np.float32)[:, None] for three in (self.scale, self.shift))
        values: NDArray[np.float32] = np.arange(_VALUES, dtype=np.float32) * scale + shift
        return values


def square(
    photo: Photo, side: int, levels: Levels, *, antialias: bool, native: Kernels | None, out: Square | None = None
) -> Square:
    """A photo as float32 [3, side, side], aspect ratio not kept.

    Without antialiasing, as published: the cubic kernel with a = -0.75 over the nearest 4 x 4 pixels, so fine texture
    of a large photo aliases, and values overshoot 0..255 at edges. With it: a = -0.5 over the whole footprint, each
    value a whole number of 0..255 before `levels`.

    native: the kernels, or None for the same in numpy and Pillow: with antialiasing 1 of 255 apart, or 4
            where thousands of rows become few
    out:    where it is written, float32 [3, side, side], contiguous; None: an array of its own
    """
    if side < 1:
        raise ImageError(f"the side of the model's square must be at least 1, got {side}")
    out = np.empty((3, side, side), np.float32) if out is None else out
    if out.shape != (3, side, side) or out.dtype != np.dtype(np.float32) or not out.flags.c_contiguous:
        raise ValueError(f"a square is written to contiguous float32 [3, {side}, {side}], not {out.dtype} {out.shape}")
    if native is None:
        (_antialiased_plainly if antialias else _cubic_plainly)(photo, levels, out)
    elif (_antialiased if antialias else _cubic)(photo, levels, out, native):
        raise MemoryError(f"no memory for a square of {list(out.shape)}")
    return out


def _antialiased(photo: Photo, levels: Levels, out: Square, native: Kernels) -> int:
    """Torch's integer arithmetic, to the last bit. Not 0 where memory ran out."""
    side, failed = out.shape[-1], 0
    sums, table = np.zeros((side, side, PIXEL_BYTES), np.int32), levels.table()
    for top, rows in photo.bands():
        count, width, step = rows.shape
        failed |= native.antialias_rows(
            rows.ctypes.data, sums.ctypes.data, width, photo.height, step, side, top, count
        )  # fmt: skip
    return failed | native.antialias_finish(sums.ctypes.data, table.ctypes.data, out.ctypes.data, photo.height, side)


def _cubic(photo: Photo, levels: Levels, out: Square, native: Kernels) -> int:
    side, failed = out.shape[-1], 0
    given = LevelsLayout(levels.scale, levels.shift)
    for begin, end, top, rows in _parts(photo, side):
        _, width, step = rows.shape
        failed |= native.resize_cubic(
            rows.ctypes.data, out.ctypes.data, ctypes.byref(given), photo.height, width, step, side, top, begin, end
        )
    return failed


def _antialiased_plainly(photo: Photo, levels: Levels, out: Square) -> None:
    small = np.asarray(photo.whole().resize(out.shape[1:], Image.Resampling.BICUBIC))
    for color, table in enumerate(levels.table()):
        out[color] = table[small[..., color]]


def _cubic_plainly(photo: Photo, levels: Levels, out: Square) -> None:
    side = out.shape[-1]
    at, weights = _taps(photo.width, side)
    for begin, end, top, part in _parts(photo, side):
        pixels = part[..., :3].astype(np.float32)
        rows, row_weights = _taps(photo.height, side)
        mixed = np.einsum("ykwc,yk->ywc", pixels[rows[begin:end] - top], row_weights[begin:end])
        out[:, begin:end] = np.einsum("yxkc,xk->cyx", mixed[:, at], weights)
    for plane, scale, shift in zip(out, levels.scale, levels.shift, strict=True):
        plane *= np.float32(scale)
        plane += np.float32(shift)


def _taps(size: int, side: int) -> tuple[NDArray[np.int64], Square]:
    """For each output position the four input positions around it (those outside are the edge's), and their weights."""
    real = np.float32(size / side) * (np.arange(side, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    floor = np.floor(real)
    t = real - floor
    weights = np.stack([_far(t + 1), _near(t), _near(1 - t), _far(2 - t)], axis=1)
    at = floor.astype(np.int64)[:, None] + np.arange(-1, CUBIC_TAPS - 1)
    return at.clip(0, size - 1), weights


def _near(x: Square) -> Square:
    """The cubic kernel within one pixel."""
    return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1


def _far(x: Square) -> Square:
    """Between one pixel and two."""
    return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC


def _parts(photo: Photo, side: int) -> Iterator[tuple[int, int, int, NDArray[np.uint8]]]:
    """Rows of the square from `begin` to before `end`, the photo's first row that they need, and those rows."""
    at, _ = _taps(photo.height, side)
    most = max(CUBIC_TAPS, BAND_PIXELS // photo.width)
    begin = 0
    while begin < side:
        top = int(at[begin, 0])
        end = max(begin + 1, int(np.searchsorted(at[:, -1], top + most)))
        yield begin, end, top, photo.pixels(top, int(at[end - 1, -1]) + 1)
        begin = end
