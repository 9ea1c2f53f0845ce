"""The rasteriser of polygons: a pixel is inside if its centre is, by the even-odd rule.

Coordinates are pixels from the photo's top left corner, so the centre of the first pixel is at (0.5, 0.5). Masks lie
within half a pixel of what pycocotools makes of the same polygon.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlora.vocabulary.errors import DataError

MOST_POINTS = 1_000_000  # of one polygon
_FARTHEST = 1e8
_EDGES_AT_ONCE = 1 << 14
_CROSSINGS_AT_ONCE = 1 << 22


class Patch(NamedTuple):
    """Part of a photo: pixels, bool [h, w], from column `left` and row `top`; nothing beside it is inside."""

    left: int
    top: int
    pixels: NDArray[np.bool_]

    def draw(self, onto: NDArray[np.uint8], value: int) -> None:
        """Set the pixels inside to `value`; onto: uint8 [H, W], which the patch lies within."""
        height, width = self.pixels.shape
        onto[self.top : self.top + height, self.left : self.left + width][self.pixels] = value


def polygon_mask(ring: NDArray[np.float64], height: int, width: int) -> Patch:
    """The pixels within one closed ring, as far as they lie on the photo.

    ring: float64 [N, 2], x and y; what it encloses an even number of times is outside
    `DataError`: fewer than three points, too many, or one that is no number or far away.
    """
    if ring.ndim != 2 or ring.shape[1] != 2 or not 3 <= len(ring) <= MOST_POINTS:
        raise DataError(f"a polygon has 3 to {MOST_POINTS} points of x and y, got an array {list(ring.shape)}")
    if not (np.abs(ring) < _FARTHEST).all():  # so written, it is false of what is no number too
        raise DataError(f"a polygon has a coordinate that is no number, or beyond {_FARTHEST:g} pixels")
    left, top = (int(value) for value in np.floor(ring.min(axis=0)).clip(0, (width, height)))
    right, bottom = (int(value) for value in np.ceil(ring.max(axis=0)).clip((left, top), (width, height)))
    toggles = np.zeros((bottom - top, right - left + 1), np.uint8)
    if toggles.shape[0] and toggles.shape[1] > 1:
        following = np.roll(ring, -1, axis=0)
        for begin in range(0, len(ring), _EDGES_AT_ONCE):
            part = slice(begin, begin + _EDGES_AT_ONCE)
            _toggle(toggles, ring[part] - (left, top), following[part] - (left, top))
    inside = (np.cumsum(toggles[:, :-1], axis=1, dtype=np.uint32) & 1).astype(np.bool_)
    return Patch(left, top, inside)


def _toggle(toggles: NDArray[np.uint8], start: NDArray[np.float64], end: NDArray[np.float64]) -> None:
    """Count in each row where edges cross the line through its pixels' centres, at the next pixel's centre."""
    rows, columns = toggles.shape
    upper, lower = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first = np.ceil(upper - 0.5).clip(0, rows).astype(np.int64)  # centres in [upper, lower)
    last = np.ceil(lower - 0.5).clip(0, rows).astype(np.int64)
    counts = (last - first).clip(0)
    at = 0
    while at < len(counts):
        # edges together as long as what they cross fits into a bounded array; one edge crosses each row once
        many = max(1, int(np.searchsorted(np.cumsum(counts[at:]), _CROSSINGS_AT_ONCE)))
        part = slice(at, at + many)
        edge = np.repeat(np.arange(at, min(at + many, len(counts))), counts[part])
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts[part]) - counts[part], counts[part]) + first[edge]
        run, rise = end[edge, 0] - start[edge, 0], end[edge, 1] - start[edge, 1]
        x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * run / rise
        column = np.ceil(x - 0.5).clip(0, columns - 1).astype(np.int64)
        # as bits: an even number of crossings in one place is none
        places, times = np.unique(row * columns + column, return_counts=True)
        toggles.ravel()[places] ^= (times & 1).astype(np.uint8)
        at += many
