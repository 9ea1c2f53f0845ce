"""Grids of tiles: what they cover, how they overlap, what `auto` chooses."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlora.images.tiles import UNTILED, WHOLE, Box, Grid, Tiling, choose_grid, overlap, parse_grid, starts
from mtlora.vocabulary.errors import ImageError


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    side=st.integers(1, 32),
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
)
def test_tiles_cover_the_photo_and_have_pixels(rows: int, columns: int, side: int, width: int, height: int) -> None:
    boxes = [*Grid(rows, columns).boxes(width, height, 8 * side)]
    assert len(boxes) == rows * columns
    assert all(0 <= b.left < b.right <= width and 0 <= b.top < b.bottom <= height for b in boxes)
    along = [(b.left, b.right) for b in boxes[:columns]]
    assert along[0][0] == 0
    assert along[-1][1] == width
    assert all(after[0] <= before[1] for before, after in pairwise(along))
    down = [(b.top, b.bottom) for b in boxes[::columns]]
    assert down[0][0] == 0
    assert down[-1][1] == height


def test_two_tiles_of_224_px_overlap_by_an_eighth_of_their_side() -> None:
    """28 cells each, of which 4 are shared: 52 together, so a photo of 520 px has tiles of 280 px that share 40."""
    assert overlap(28) == 4
    assert starts(2, 28) == [0, 24]
    assert [*Grid(1, 2).boxes(520, 280, 224)] == [Box(0, 0, 280, 280), Box(240, 0, 520, 280)]
    assert Grid(1, 2).covered_px(224) == (224, 416)
    assert WHOLE.covered_px(224) == (224, 224)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (100, 100, "1x1"),
        (448, 448, "1x1"),
        (449, 448, "1x2"),
        (640, 427, "1x2"),
        (640, 640, "2x2"),
        (1920, 1280, "4x4"),
    ],
)
def test_auto_takes_the_fewest_tiles_of_at_most_two_photo_pixels_each(width: int, height: int, expected: str) -> None:
    assert str(choose_grid(width, height, 224, 16)) == expected


@given(width=st.integers(1, 60_000), height=st.integers(1, 60_000), most=st.integers(1, 256))
def test_auto_keeps_to_the_most(width: int, height: int, most: int) -> None:
    assert choose_grid(width, height, 224, most).count <= most


@pytest.mark.parametrize(
    "text", ["", "2", "2X3", "0x1", "1x0", "100x1", "2x3x4", " 2x3", "2x3\n", "-1x2", "٢x٣", "Auto"]
)
def test_what_is_no_grid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be auto, or rows x columns such as 2x3, each from 1 to 99"):
        parse_grid(text)


def test_what_is_one_is_read() -> None:
    assert parse_grid("auto") is None
    assert parse_grid("2x13") == Grid(2, 13)
    with pytest.raises(ImageError, match="1 to 99 tiles each way, got 0x1"):
        Grid(0, 1)


def test_a_tiling_knows_what_every_photo_has_at_least() -> None:
    assert UNTILED.least == 1
    assert Tiling(Grid(2, 3), 16).least == 6
    assert Tiling(None, 16).least == 1
    assert Tiling(None, 16).of(640, 640, 224) == Grid(2, 2)
    assert Tiling(Grid(2, 3), 16).of(10, 10, 224) == Grid(2, 3)
