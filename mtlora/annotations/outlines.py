"""Outlines of the classes of a class map as polygons: along the sides of pixels, then simplified; holes are kept.

A class is what lies within an odd number of its rings. Outer rings turn clockwise as seen, holes the other way.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlora.vocabulary.errors import OutlineError

TOLERANCE_PX = 1.0
"""How far a simplified outline may lie from the pixels' sides."""
MOST_SIDES = 200_000
"""Straight pieces of all outlines of one class; they are followed one by one."""

_Points = NDArray[np.int64]


class Region(NamedTuple):
    """Pixels of one class that hang together by their sides: rings int64 [N, 2], x and y, without a double end."""

    outer: _Points
    holes: tuple[_Points, ...]

    @property
    def in_one_ring(self) -> _Points:
        """The same as one ring that goes to each hole and back on the same line: even-odd, the holes stay empty."""
        start = self.outer[:1]
        parts = [self.outer]
        for hole in self.holes:
            parts += [start, hole, hole[:1]]
        return np.concatenate([*parts, start]) if self.holes else self.outer


def class_polygons(labels: NDArray[np.uint8], index: int) -> list[dict[str, Any]]:
    """Rings of the pixels that are `index`: `{"points": [[x, y], …], "hole": …}`, in pixels from the top left corner.

    labels: uint8 [H, W]
    `OutlineError` where there are more than `MOST_SIDES`.
    """
    starts, following = _sides(np.pad(labels == index, 1))
    return [{"points": _simplified(ring).tolist(), "hole": bool(_area(ring) < 0)} for ring in _rings(starts, following)]


def class_regions(labels: NDArray[np.uint8], index: int) -> list[Region]:
    """The regions of a class, each with its holes; simplified, so neighbours may overlap by `TOLERANCE_PX`.

    labels: uint8 [H, W]
    `OutlineError` where there are more than `MOST_SIDES`.
    """
    starts, following = _sides(np.pad(labels == index, 1))
    rings = _rings(starts, following)
    outers = sorted((ring for ring in rings if _area(ring) > 0), key=_area)
    holes: list[list[_Points]] = [[] for _ in outers]
    for ring in rings:
        if _area(ring) < 0:
            holes[_owner(_beside(ring), outers)].append(_simplified(ring))
    return [Region(_simplified(outer), tuple(within)) for outer, within in zip(outers, holes, strict=True)]


def _beside(hole: _Points) -> NDArray[np.float64]:
    """The centre of a pixel of the class that has a side in common with a hole: to the right, as its ring goes."""
    side = np.sign(hole[1] - hole[0])
    beside: NDArray[np.float64] = hole[0] + side / 2 + np.array([-side[1], side[0]]) / 2
    return beside


def _owner(point: NDArray[np.float64], outers: list[_Points]) -> int:
    """Which of the rings, sorted by area, is the smallest around a point."""
    for number, ring in enumerate(outers):
        if (ring.min(axis=0) < point).all() and (point < ring.max(axis=0)).all() and _is_within(point, ring):
            return number
    raise OutlineError(f"the hole at {point.tolist()} lies in none of {len(outers)} regions")


def _is_within(point: NDArray[np.float64], ring: _Points) -> bool:
    """By the number of upright sides to the right; sides of pixels are upright or level."""
    following = np.roll(ring, -1, axis=0)
    crosses = (ring[:, 1] > point[1]) != (following[:, 1] > point[1])
    return bool(np.count_nonzero(crosses & (ring[:, 0] > point[0])) % 2)


def _sides(inside: NDArray[np.bool_]) -> tuple[_Points, NDArray[np.int64]]:
    """Where straight pieces of outlines begin, [N, 2] as x and y, and which follows each. `inside` has a margin."""
    above, left = inside[:-1, 1:-1], inside[1:-1, :-1]
    below, right = inside[1:, 1:-1], inside[1:-1, 1:]
    pieces = [
        _runs(below & ~above),  # tops of pixels, followed to the right
        _runs((left & ~right).T)[:, [1, 0, 3, 2]],  # right sides, down
        _runs(above & ~below)[:, [2, 3, 0, 1]],  # bottoms, to the left
        _runs((right & ~left).T)[:, [3, 2, 1, 0]],  # left sides, up
    ]
    number = sum(map(len, pieces))
    if number > MOST_SIDES:
        raise OutlineError(f"outlines of {number} straight pieces; polygons have up to {MOST_SIDES}")
    sides = np.concatenate(pieces)
    direction = np.repeat(np.arange(4), [len(piece) for piece in pieces])
    width = inside.shape[1]
    keys = (sides[:, 1] * width + sides[:, 0]) * 4 + direction
    order = np.argsort(keys)
    ends = (sides[:, 3] * width + sides[:, 2]) * 4
    following = np.full(number, -1)
    for turn in (
        3,
        1,
    ):  # to the left; or, which counts where both are there, to the right: pixels that touch by a corner
        wanted = ends + (direction + turn) % 4
        found = order[np.searchsorted(keys, wanted, sorter=order).clip(max=number - 1)] if number else order
        following = np.where(keys[found] == wanted, found, following)
    return sides[:, :2], following


def _runs(line: NDArray[np.bool_]) -> _Points:
    """Of each row: x and y of where a run of true begins, and of where it ends."""
    edges = np.diff(np.pad(line.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    y, begin = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[1]
    return np.stack([begin, y, end, y], axis=1)


def _rings(starts: _Points, following: NDArray[np.int64]) -> list[_Points]:
    after, seen = following.tolist(), bytearray(len(following))
    rings = []
    for first in range(len(after)):
        ring, at = [], first
        while not seen[at]:
            seen[at] = 1
            ring.append(at)
            at = after[at]
        if ring:
            rings.append(starts[ring])
    return rings


def _area(ring: _Points) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def _simplified(ring: _Points) -> _Points:
    """By the farthest point from a line, again and again (Douglas and Peucker); what would be a line stays a ring."""
    far = int(((ring - ring[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([ring, ring[:1]])
    kept = np.zeros(len(closed), np.bool_)
    kept[[0, far]] = True
    open_spans = [(0, far), (far, len(ring))]
    while open_spans:
        begin, end = open_spans.pop()
        if end - begin < 2:
            continue
        line = closed[end] - closed[begin]
        points = closed[begin + 1 : end] - closed[begin]
        length = float(np.hypot(*line))
        away = np.abs(points[:, 0] * line[1] - points[:, 1] * line[0]) / length if length else np.hypot(*points.T)
        at = int(away.argmax())
        if away[at] > TOLERANCE_PX:
            middle = begin + 1 + at
            kept[middle] = True
            open_spans += [(begin, middle), (middle, end)]
    simple = closed[:-1][kept[:-1]]
    return simple if len(simple) > 2 else ring
