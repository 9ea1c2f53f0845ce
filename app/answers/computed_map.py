"""Pictures of what was computed of an image: where the encoder's blocks ran, and how much of them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mtlora.images.tiles import CELL_PX, Grid
from mtlora.maps.blending import blend
from mtlora.maps.png_writer import png_file
from mtlora.model.gates import Gates, StageGates
from mtlora.vocabulary.compute_costs import StageGrid, multiply_adds, stage_grids
from mtlora.vocabulary.spec import PATCH_SIZE, AdapterSpec


def computed_map_of_tiles(gates: Sequence[Gates | None], grid: Grid, spec: AdapterSpec) -> bytes:
    """The same of a photo in tiles, a pixel for each 8 x 8 px of what they cover; blended as their scores are.

    gates: of each tile, row by row
    """
    side = spec.image_size // CELL_PX
    cells = [_computed(one, spec).reshape(side, 2, side, 2).mean(axis=(1, 3)) for one in gates]
    whole = blend([torch.from_numpy(one)[None] for one in cells], grid)[0].numpy()
    return png_file(np.rint(255 * whole).astype(np.uint8))


def computed_map(gates: Gates | None, spec: AdapterSpec) -> bytes:
    """A grey PNG, a pixel for each patch of the model's square: 0 nothing, 255 every block.

    gates: of one image; None: everything was computed
    Blocks count as they cost. The square is the photo squeezed; a client stretches the picture over the photo.
    """
    return png_file(np.rint(255 * _computed(gates, spec)).astype(np.uint8))


def _computed(gates: Gates | None, spec: AdapterSpec) -> NDArray[np.float64]:
    """Of each patch the share that was computed: [S/4, S/4]."""
    side = spec.image_size // PATCH_SIZE
    if gates is None:
        return np.ones((side, side))
    whole, total = np.zeros((side, side)), 0.0
    costs, grids = multiply_adds(spec).blocks, stage_grids(spec)
    for number, (stage, grid) in enumerate(zip(gates, grids, strict=True)):
        for block, cost in enumerate(costs[number]):
            total += cost
            whole += cost * _patches(stage, grid, block, number)[:side, :side]
    return whole / total


def _patches(gates: StageGates, grid: StageGrid, block: int, stage: int) -> NDArray[np.float64]:
    """1 where a block was computed, else 0: [H, W], patches of the square or, where merging padded it, some more."""
    side = grid.side << stage
    if not bool(gates.blocks[0, block]):
        return np.zeros((side, side))
    if gates.windows is None:
        return np.ones((side, side))
    area, count = grid.window << stage, grid.side // grid.window
    opened = gates.windows[0, block].cpu().numpy().astype(np.float64).reshape(count, count)
    rolled = np.kron(opened, np.ones((area, area)))
    shift = grid.shift_of(block) << stage
    return np.roll(rolled, (shift, shift), axis=(0, 1))
