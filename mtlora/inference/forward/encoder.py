"""The encoder's forward pass over folded layers: blocks in window order, all task streams in one tensor.

On a CPU a block in native code takes a few windows at a time through all its layers, so that what they hand on stays in
cache; torch's operators are better off with many. On a GPU all run at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtlora.inference.forward import batched_ops as of_items
from mtlora.inference.forward.block import Features, run_block
from mtlora.inference.forward.fused_blocks import FusedBlock
from mtlora.inference.forward.windows import (
    StageShape,
    Windows,
    merge_gather,
    patch_gather,
    raster_gather,
    stage_windows,
)
from mtlora.inference.prepare.layers import Block, Encoder, Linear, Merging, Stage, TaskLinear, stacked
from mtlora.vocabulary.spec import PATCH_SIZE

ROWS_AT_ONCE = 3136
"""Tokens of one tile on a CPU, to bound memory: the hidden activations of Swin-T's last stage are then 39 MB."""


class Plan(NamedTuple):
    """What the forward pass needs to know besides tensors."""

    stages: tuple[StageShape, ...]
    heads: tuple[int, ...]
    tasks: Tensor | None  # int64, positions of the tasks wanted among the set's; None: all
    all_streams: bool  # mode `addition`: every block needs all tasks


def encode(encoders: Sequence[Encoder], images: Tensor, plan: Plan) -> list[Tensor]:
    """Projected maps of the tasks wanted, finest first.

    encoders: one for each image, of equal shapes, images of one set repeating the same object; or one for all, which
              may hold several sets (see `layers`)
    images:   float [n, 3, S, S]
    returns:  four float [n, T, h, w, c], sides S/8, S/16, S/32, S/32
    """
    first = plan.stages[0]
    x = stacked([e.patches for e in encoders])(_patches(images, first.side, first.window))
    x = stacked([e.patch_norm for e in encoders])(x)
    maps = []
    for index, shape in enumerate(plan.stages):
        stages = [_selected(e.stages[index], plan) for e in encoders]
        features, shift = _run_blocks([stage.blocks for stage in stages], x, shape, plan, plan.heads[index])
        if features.streams is not None and plan.all_streams and plan.tasks is not None:
            features = Features(features.shared, features.streams.index_select(1, plan.tasks))
        projection = stacked([stage.projection for stage in stages])
        merging = stacked([stage.merging for stage in stages])
        if merging is None:
            maps.append(_last_map(projection, features, shape, shift))
            break
        following = plan.stages[index + 1]
        x = _merge(merging, features.shared, shape, shift, following.window)
        if features.streams is None:
            maps.append(_last_map(projection, Features(x, None), following, 0))
        else:
            maps.append(_merged_map(merging, projection, features.streams, shape, shift))
    return maps


def _selected(stage: Stage, plan: Plan) -> Stage:
    """The stage with the tensors of the tasks wanted only."""
    if plan.tasks is None:
        return stage
    projection = stage.projection.mT.index_select(1, plan.tasks).mT  # its layout in memory stays
    if plan.all_streams:
        return replace(stage, projection=projection)
    last = stage.blocks[-1]
    if isinstance(last, FusedBlock):
        return replace(stage, projection=projection)  # it is told at its call
    proj, fc1, fc2 = (_of_tasks(linear, plan.tasks) for linear in (last.proj, last.fc1, last.fc2))
    blocks = (*stage.blocks[:-1], replace(last, proj=proj, fc1=fc1, fc2=fc2))
    return replace(stage, blocks=blocks, projection=projection)


def _of_tasks(linear: Linear | TaskLinear, index: Tensor) -> Linear | TaskLinear:
    return replace(linear, tasks=linear.tasks.select(index)) if isinstance(linear, TaskLinear) else linear


def _patches(images: Tensor, side: int, window: int) -> Tensor:
    """Non-overlapping 4 x 4 patches in window order: float [n, 3, S, S] -> [n, side², 48]."""
    rows = images.contiguous().view(len(images), -1, PATCH_SIZE)
    gather = patch_gather(side, window, images.device)
    return rows.index_select(1, gather).view(len(images), side * side, -1)


def _run_blocks(
    blocks: Sequence[Sequence[Any]], x: Tensor, shape: StageShape, plan: Plan, heads: int
) -> tuple[Features, int]:
    """All blocks of a stage, for each image its own, and the shift of the order they end in; x comes in plain order."""
    layout = stage_windows(*shape, x.device)
    shifted = False
    features = Features(x, None)
    for number, own in enumerate(zip(*blocks, strict=True)):
        x = features.shared
        if layout.shifted is not None and shifted != (number % 2 == 1):
            shifted = not shifted
            x = x.index_select(1, layout.shift if shifted else layout.unshift)  # type: ignore[arg-type]
        windows = layout.shifted if shifted and layout.shifted is not None else layout.plain
        if isinstance(own[0], FusedBlock):
            features = _run_fused(own, x, windows, plan.tasks)
        else:
            features = (_run_tiles if of_items.takes_turns(x) else _run_at_once)(own, x, windows, heads)
    return features, shape.shift if shifted else 0


def _run_fused(blocks: Sequence[FusedBlock], x: Tensor, windows: Windows, wanted: Tensor | None) -> Features:
    """One block in native code; images of one set that stand together go in one call."""
    if all(block is blocks[0] for block in blocks):
        return Features(x, blocks[0].run(x, windows, wanted))
    streams = [block.run(x[item : item + 1], windows, wanted) for item, block in enumerate(blocks)]
    given = [own for own in streams if own is not None]
    return Features(x, torch.cat(given) if given else None)


def _run_at_once(blocks: Sequence[Block], x: Tensor, windows: Windows, heads: int) -> Features:
    """One block over everything."""
    block = stacked(blocks)
    return run_block(block, x, _positions(block.position, windows, len(x)), heads)


def _positions(position: Tensor, windows: Windows, items: int) -> Tensor:
    """Bias and mask of all windows: float [1 or n, kinds, heads, N, P] -> [n * nW, heads, N, P], or [1, …] for all."""
    if len(windows.masks) == 1 and len(position) == 1:
        return position[0]
    if len(position) == 1:
        return position[0].index_select(0, windows.kinds.repeat(items))
    return position.index_select(1, windows.kinds).flatten(0, 1)


def _run_tiles(blocks: Sequence[Block], x: Tensor, windows: Windows, heads: int) -> Features:
    """One block, a tile at a time; the shared path overwrites x, float [n, L, C]."""
    tokens = windows.masks.shape[-1]
    streams: Tensor | None = None
    for items, run in _tiles(len(x), len(windows.kinds), tokens):
        block = stacked(blocks[items])
        rows = slice(run.start * tokens, run.stop * tokens)
        tile = run_block(block, x[items, rows], _position(block.position, windows.kinds[run]), heads)
        x[items, rows] = tile.shared
        if tile.streams is not None:
            if streams is None:
                count, width = tile.streams.shape[1], tile.streams.shape[3]
                streams = x.new_empty(len(x), count, x.shape[1], width)
            streams[items, :, rows] = tile.streams
    return Features(x, streams)


def _tiles(items: int, windows: int, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Which items and which of their windows run together."""
    at_once = max(1, ROWS_AT_ONCE // tokens)
    items_at_once = max(1, at_once // windows)
    for item in range(0, items, items_at_once):
        for first in range(0, windows, at_once):
            yield slice(item, min(item + items_at_once, items)), slice(first, min(first + at_once, windows))


def _position(position: Tensor, kinds: Tensor) -> Tensor:
    """Bias and mask of a tile's windows: float [n, kinds, heads, N, N] -> [windows, heads, N, N], or one for all."""
    lowest, highest = int(kinds[0]), int(kinds[-1])
    if lowest == highest and len(position) == 1:
        return position[0, lowest : lowest + 1]
    return position.index_select(1, kinds).flatten(0, 1)


def _merge(merging: Merging, x: Tensor, shape: StageShape, shift: int, window: int) -> Tensor:
    """Patch merging of the shared path, out in the next stage's order: float [n, L, C] -> [n, L / 4, 2C]."""
    gather = merge_gather(shape.side, shape.window, shift, window, x.device)
    neighbours = x.index_select(1, gather).view(len(x), len(gather) // 4, -1)
    return merging.reduction(merging.norm(neighbours))


def _merged_map(merging: Merging, projection: Tensor, streams: Tensor, shape: StageShape, shift: int) -> Tensor:
    """Patch merging and projection of every stream: float [n, T, L, C] -> [n, T, h, w, c]."""
    gather = merge_gather(shape.side, shape.window, shift, 0, streams.device)
    out = of_items.merged_projection(streams, gather, merging.norm.weight, merging.norm.bias, projection)
    return out.view(*streams.shape[:2], shape.side // 2, shape.side // 2, -1)


def _last_map(projection: Tensor, features: Features, shape: StageShape, shift: int) -> Tensor:
    """Projection of every stream, or of the shared path for every task: [n, T, h, w, c]."""
    source = features.shared[:, None] if features.streams is None else features.streams
    projected = torch.matmul(source, projection.transpose(2, 3))
    gather = raster_gather(shape.side, shape.window, shift, projected.device)
    return projected.index_select(2, gather).view(*projected.shape[:2], shape.side, shape.side, -1)
