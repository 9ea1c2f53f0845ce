"""The blending of tiles: scores of a photo's overlapping parts become scores of the photo, as if of one large pass."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlora.images.tiles import Grid, overlap, starts
from mtlora.vocabulary.errors import MTLoRAError


def blend(tiles: Sequence[Tensor], grid: Grid) -> Tensor:
    """Scores of tiles put together; where tiles lie on one another, each counts less towards its own border.

    tiles:   float [K, s, s] each, row by row: logits, or vectors of any length
    returns: [K, h, w] of the first one's type, h and w as `Grid.cells` says. One tile is returned as it is.
    """
    if len(tiles) != grid.count or any(tile.shape != tiles[0].shape or tile.ndim != 3 for tile in tiles):
        raise MTLoRAError(f"a grid {grid} wants {grid.count} tiles [K, s, s], got {[list(t.shape) for t in tiles]}")
    if grid.count == 1:
        return tiles[0]
    side = tiles[0].shape[-1]
    if tiles[0].shape[-2] != side:
        raise MTLoRAError(f"tiles are as wide as high, got {list(tiles[0].shape)}")
    out = tiles[0].new_zeros(tiles[0].shape[0], *grid.cells(side))
    down, across = (axis_weights(count, side).to(out) for count in (grid.rows, grid.columns))
    tops, lefts = starts(grid.rows, side), starts(grid.columns, side)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, grid.columns)
        top, left = tops[row], lefts[column]
        weights = torch.outer(down[row], across[column])
        out[:, top : top + side, left : left + side] += tile * weights
    return out


def axis_weights(count: int, side: int) -> Tensor:
    """What each of `count` tiles in a row counts at its own cells; at every place the sum over all tiles is 1.

    Over the cells that two tiles share, the weight of the next one rises as 3 t² - 2 t³, flat at both ends.

    returns: float32 [count, side]
    """
    shared = overlap(side)
    t = (torch.arange(shared, dtype=torch.float32) + 0.5) / max(1, shared)
    rising = t * t * (3 - 2 * t)
    weights = torch.ones(count, side)
    weights[1:, :shared] = rising
    if shared:
        weights[:-1, side - shared :] = 1 - rising
    return weights
