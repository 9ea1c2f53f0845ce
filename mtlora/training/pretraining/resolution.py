"""Several resolutions for one Swin: same tensors, windows and position biases cut to what a stage offers.

A stage with fewer tokens a side than the window attends within that side and reads the middle of its position bias
table. So a table is trained in place at 112 px and goes on at 224 px; nothing is interpolated.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mtlora.model.mtlora import MTLoRAModel
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import PATCH_SIZE


def table_index(window: int, table_window: int) -> Tensor:
    """Rows of a position bias table made for `table_window` that a smaller window reads.

    returns: int64 [window**2, window**2]
    """
    if not 1 <= window <= table_window:
        raise TrainingError(f"a window of {window} cannot read a table for windows of {table_window}")
    side = torch.arange(window)
    y, x = (axis.flatten() for axis in torch.meshgrid(side, side, indexing="ij"))
    offset = table_window - 1
    return (y[:, None] - y + offset) * (2 * table_window - 1) + x[:, None] - x + offset


def set_resolution(swin: Any, image_size: int) -> None:
    """Make a timm Swin take `image_size` px inputs, with windows as large as its tables allow; its tensors stay.

    Sides may be odd: patch merging then pads a row and a column. Windows must still tile what is larger than they are.
    """
    if image_size % PATCH_SIZE:
        raise TrainingError(f"the input side must be a multiple of {PATCH_SIZE} px, got {image_size}")
    side = image_size // PATCH_SIZE
    swin.patch_embed.strict_img_size = False
    for number, stage in enumerate(swin.layers):
        side = (side + 1) // 2 if number else side
        for index, block in enumerate(stage.blocks):
            table_window = (math.isqrt(block.attn.relative_position_bias_table.shape[0]) + 1) // 2
            if side > table_window and side % table_window:
                raise TrainingError(
                    f"{image_size} px: {side} tokens in stage {number} are not tiled by windows of {table_window}"
                )
            window = min(side, table_window)
            shift = window // 2 if index % 2 and side > table_window else 0
            block.input_resolution = (side, side)
            block.window_size, block.shift_size = (window, window), (shift, shift)
            block.window_area = block.attn.window_area = window * window
            block.attn.window_size = (window, window)
            block.attn.relative_position_index = table_index(window, table_window)
            block.init_non_persistent_buffers()


@contextmanager
def set_side(model: MTLoRAModel, side: int) -> Iterator[None]:
    """Let an adapted model take photos of another side for a while; its tensors stay as they are."""
    before = model.input_side
    try:
        _take_side(model, side)
        yield
    finally:
        _take_side(model, before)


def train_at(model: MTLoRAModel, side: int) -> None:
    """Let an adapted model take photos of this side from now on."""
    _take_side(model, side)


def _take_side(model: MTLoRAModel, side: int) -> None:
    if side == model.input_side:
        return
    device = next(model.parameters()).device
    set_resolution(model.backbone, side)
    model.input_side = side
    model.to(device)
