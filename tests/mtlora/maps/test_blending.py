"""The blending of tiles: what agrees stays as it is, what differs fades from one to the other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlora.images.tiles import Grid, starts
from mtlora.maps.blending import axis_weights, blend
from mtlora.vocabulary.errors import MTLoRAError


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), side=st.integers(1, 20), seed=st.integers(0, 999))
def test_tiles_cut_from_scores_give_these_scores_again(rows: int, columns: int, side: int, seed: int) -> None:
    grid = Grid(rows, columns)
    whole = torch.randn(3, *grid.cells(side), generator=torch.Generator().manual_seed(seed))
    tiles = [whole[:, y : y + side, x : x + side] for y in starts(rows, side) for x in starts(columns, side)]
    torch.testing.assert_close(blend(tiles, grid), whole)


def test_over_the_overlap_one_fades_into_the_other() -> None:
    row = blend([torch.zeros(1, 28, 28), torch.ones(1, 28, 28)], Grid(1, 2))[0, 5]
    t = torch.tensor([0.125, 0.375, 0.625, 0.875])
    torch.testing.assert_close(row[24:28], 3 * t**2 - 2 * t**3)
    assert row[:24].eq(0).all()
    assert row[28:].eq(1).all()


def test_one_tile_is_returned_as_it_is() -> None:
    tile = torch.randn(2, 7, 7)
    assert blend([tile], Grid()) is tile
    assert axis_weights(1, 7).eq(1).all()


@pytest.mark.parametrize("tiles", [[torch.zeros(1, 7, 7)], [torch.zeros(1, 7, 7), torch.zeros(2, 7, 7)]])
def test_what_does_not_fit_is_refused(tiles: list[torch.Tensor]) -> None:
    with pytest.raises(MTLoRAError, match="a grid 1x2 wants 2 tiles"):
        blend(tiles, Grid(1, 2))
    with pytest.raises(MTLoRAError, match="as wide as high"):
        blend([torch.zeros(1, 7, 6)] * 2, Grid(1, 2))
