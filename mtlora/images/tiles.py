"""Tiles: a photo cut in a grid of overlapping parts, each of which the model sees in a square of its own. No torch.

Lengths are counted in cells of a decoder's scores, 8 px of the model's square each, so that scores of neighbouring
tiles lie on one another cell by cell and nothing has to be resampled when they are put together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from mtlora.vocabulary.errors import ImageError

CELL_PX = 8
"""Of the model's square, for each score of a decoder."""
OVERLAP = 8
"""Neighbouring tiles share one part in so many of a tile's side, in whole cells."""
MOST_EACH_WAY = 99
REACH = 2
"""Photo pixels for each of the model's, up to which `auto` lets a tile grow."""
AUTO = "auto"
FORM = "auto, or rows x columns such as 2x3"
_WRITTEN = re.compile(r"([1-9][0-9]?)x([1-9][0-9]?)", re.ASCII)


class Box(NamedTuple):
    """Part of a photo, in pixels; right and bottom are behind the last."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Grid:
    """How many tiles a photo is cut in, from 1 to 99 each way."""

    rows: int = 1
    columns: int = 1

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= MOST_EACH_WAY and 1 <= self.columns <= MOST_EACH_WAY):
            raise ImageError(f"a grid has 1 to {MOST_EACH_WAY} tiles each way, got {self}")

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    @property
    def count(self) -> int:
        """Tiles."""
        return self.rows * self.columns

    def cells(self, side: int) -> tuple[int, int]:
        """Rows and columns of cells that all tiles together cover.

        side: of a tile, in cells
        """
        return _length(self.rows, side), _length(self.columns, side)

    def covered_px(self, side_px: int) -> tuple[int, int]:
        """Height and width of what the model sees in all tiles together.

        side_px: of the model's square
        """
        if self.count == 1:
            return side_px, side_px
        rows, columns = self.cells(side_px // CELL_PX)
        return rows * CELL_PX, columns * CELL_PX

    def boxes(self, width: int, height: int, side_px: int) -> Iterator[Box]:
        """The part of a photo that each tile sees, row by row; at least one pixel each way.

        side_px: of the model's square
        """
        side = side_px // CELL_PX
        across = [*_spans(self.columns, side, width)]
        for (top, bottom), (left, right) in product(_spans(self.rows, side, height), across):
            yield Box(left, top, right, bottom)


WHOLE = Grid()
"""The photo as it is: one pass over all of it."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How photos are to be cut.

    grid: the same for every photo; None: as `choose_grid` says
    most: tiles of one photo, where that chooses
    """

    grid: Grid | None = WHOLE
    most: int = 1

    @property
    def is_open(self) -> bool:
        """Whether it depends on the photo."""
        return self.grid is None

    @property
    def least(self) -> int:
        """Tiles that every photo has at least."""
        return 1 if self.grid is None else self.grid.count

    def of(self, width: int, height: int, side_px: int) -> Grid:
        """The grid of an upright photo of this size; `side_px`: of the model's square."""
        return choose_grid(width, height, side_px, self.most) if self.grid is None else self.grid


UNTILED = Tiling()


def parse_grid(text: str) -> Grid | None:
    """A grid as clients write it; None: `auto`. `ValueError`: neither."""
    if text == AUTO:
        return None
    found = _WRITTEN.fullmatch(text)
    if not found:
        raise ValueError(f"must be {FORM}, each from 1 to {MOST_EACH_WAY}")
    return Grid(int(found[1]), int(found[2]))


def choose_grid(width: int, height: int, side_px: int, most: int) -> Grid:
    """What `auto` means for a photo: the fewest tiles of which none sees more than `REACH` photo pixels for each of
    the model's, along either side. Where those are more than `most`, the way that has more of them gets fewer.

    side_px: of the model's square
    """
    rows, columns = (_fewest(length, side_px) for length in (height, width))
    while rows * columns > most:
        if rows > columns:
            rows -= 1
        else:
            columns -= 1
    return Grid(rows, columns)


def overlap(side: int) -> int:
    """Cells that two neighbouring tiles share; 0 where a tile has but one.

    side: of a tile, in cells
    """
    return 0 if side < 2 else max(1, (side + OVERLAP // 2) // OVERLAP)


def starts(count: int, side: int) -> list[int]:
    """The first cell of each of `count` tiles that lie in a row."""
    return [number * (side - overlap(side)) for number in range(count)]


def _length(count: int, side: int) -> int:
    return starts(count, side)[-1] + side


def _spans(count: int, side: int, length: int) -> Iterator[tuple[int, int]]:
    """First pixel of each tile, and the one behind its last: the cells' edges, to the nearest pixel."""
    cells = _length(count, side)
    for start in starts(count, side):
        first = min(_rounded(start * length, cells), length - 1)
        yield first, max(first + 1, _rounded((start + side) * length, cells))


def _rounded(amount: int, parts: int) -> int:
    return (2 * amount + parts) // (2 * parts)


def _fewest(length: int, side_px: int) -> int:
    side = side_px // CELL_PX
    for count in range(1, MOST_EACH_WAY):
        if length * side <= REACH * side_px * _length(count, side):
            return count
    return MOST_EACH_WAY
