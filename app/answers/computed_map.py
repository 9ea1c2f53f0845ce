"""Pictures of what was computed of an image: where the encoder's blocks ran, and how much of them."""

import numpy as np
from numpy.typing import NDArray

from mtlora.maps.png_writer import png_file
from mtlora.model.gates import Gates, StageGates
from mtlora.vocabulary.compute_costs import StageGrid, multiply_adds, stage_grids
from mtlora.vocabulary.spec import PATCH_SIZE, AdapterSpec


def computed_map(gates: Gates | None, spec: AdapterSpec) -> bytes:
    """A grey PNG, a pixel for each patch of the model's square: 0 nothing, 255 every block.

    gates: of one image; None: everything was computed
    Blocks count as they cost. The square is the photo squeezed; a client stretches the picture over the photo.
    """
    side = spec.image_size // PATCH_SIZE
    if gates is None:
        return png_file(np.full((side, side), 255, np.uint8))
    whole, total = np.zeros((side, side)), 0.0
    costs, grids = multiply_adds(spec).blocks, stage_grids(spec)
    for number, (stage, grid) in enumerate(zip(gates, grids, strict=True)):
        for block, cost in enumerate(costs[number]):
            total += cost
            whole += cost * _patches(stage, grid, block, number)[:side, :side]
    return png_file(np.rint(255 * whole / total).astype(np.uint8))


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
