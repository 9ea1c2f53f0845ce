"""Pictures of what was computed: bright where blocks ran, at the place where they ran."""

import io

import numpy as np
import torch
from PIL import Image

from app.answers.computed_map import computed_map, computed_map_of_tiles
from mtlora.images.tiles import Grid
from mtlora.model.gates import Gates, StageGates
from mtlora.vocabulary.compute_costs import multiply_adds, stage_grids
from testing.factories import adapter_spec
from testing.policies import open_gates

SPEC = adapter_spec()
GRIDS = stage_grids(SPEC)


def picture(gates: Gates | None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(computed_map(gates, SPEC))))


def closed() -> list[StageGates]:
    return [
        StageGates(torch.zeros_like(stage.blocks), stage.windows, {}) for stage in open_gates(SPEC, 1, windows=True)
    ]


def test_everything_is_white() -> None:
    side = SPEC.image_size // 4
    for gates in (None, open_gates(SPEC, 1, windows=True), open_gates(SPEC, 1, windows=False)):
        np.testing.assert_array_equal(picture(gates), np.full((side, side), 255))


def test_one_window_of_one_block_is_bright_where_it_lies() -> None:
    """The first window of the second block of stage 0, which is shifted."""
    stages = closed()
    stages[0].blocks[0, 1] = True
    stages[0] = stages[0]._replace(windows=torch.zeros_like(stages[0].windows))  # type: ignore[arg-type]
    stages[0].windows[0, 1, 0] = True  # type: ignore[index]
    found = picture((stages[0], stages[1], stages[2], stages[3]))
    grid, costs = GRIDS[0], multiply_adds(SPEC).blocks
    assert grid.shift
    expected = np.zeros_like(found)
    lines = slice(grid.shift, grid.shift + grid.window)
    expected[lines, lines] = round(255 * costs[0][1] / sum(map(sum, costs)))
    np.testing.assert_array_equal(found, expected)


def test_tiles_lie_beside_each_other() -> None:
    """Nothing in the left tile, everything in the right one; between them, where they overlap, something."""
    stages = closed()
    gates = [(stages[0], stages[1], stages[2], stages[3]), None]
    found = np.asarray(Image.open(io.BytesIO(computed_map_of_tiles(gates, Grid(1, 2), SPEC))))
    height, width = Grid(1, 2).covered_px(SPEC.image_size)
    assert found.shape == (height // 8, width // 8)
    assert (found[:, 0] == 0).all()
    assert (found[:, -1] == 255).all()
    assert (np.diff(found.astype(int), axis=1) >= 0).all()
