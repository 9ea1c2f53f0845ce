"""The blocks of one stage, for each image its own, of which gates may leave some windows out.

On a CPU a block in native code takes a few windows at a time through all its layers, so that what they hand on stays in
cache; torch's operators are better off with many. On a GPU all run at once. A block in native code takes tokens from
where they are; others want them window by window.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtlora.inference.forward import batched_ops as of_items
from mtlora.inference.forward.block import Features, run_block
from mtlora.inference.forward.fused_blocks import FusedBlock, Region
from mtlora.inference.forward.gating import StageGating, open_tokens
from mtlora.inference.forward.some_windows import run_some_at_once, run_some_in_turn
from mtlora.inference.forward.windows import StageShape, StageWindows, Windows, stage_windows
from mtlora.inference.prepare.layers import Block, stacked

ROWS_AT_ONCE = 3136
"""Tokens of one tile on a CPU, to bound memory: the hidden activations of Swin-T's last stage are then 39 MB."""


class Plan(NamedTuple):
    """What the forward pass needs to know besides tensors."""

    stages: tuple[StageShape, ...]
    heads: tuple[int, ...]
    tasks: Tensor | None  # int64, positions of the tasks wanted among the set's; None: all
    all_streams: bool  # mode `addition`: every block needs all tasks


class StageFeatures(NamedTuple):
    """What a stage gives; all in one order of tokens."""

    shared: Tensor  # float [n, L, C]
    streams: Tensor | None  # float [n, T, L, C], of the tasks wanted
    entered: Tensor  # float [n, L, C], the last block's shared input
    written: Tensor | None  # bool [n, T, L], where streams hold numbers; elsewhere they are `entered`. None: everywhere
    shift: int  # of the order

    def whole_streams(self) -> Tensor | None:
        """Streams that hold all their numbers."""
        if self.streams is None or self.written is None:
            return self.streams
        return torch.where(self.written[..., None], self.streams, self.entered[:, None])


def run_stage(
    blocks: Sequence[Sequence[Any]], x: Tensor, index: int, plan: Plan, gating: StageGating | None
) -> StageFeatures:
    """All blocks of a stage. x: float [n, L, C] in plain order, overwritten."""
    shape = plan.stages[index]
    layout = stage_windows(*shape, x.device)
    shifted = False
    features = StageFeatures(x, None, x, None, 0)
    for number, own in enumerate(zip(*blocks, strict=True)):
        x = features.shared
        wants_shifted = layout.shifted is not None and number % 2 == 1
        windows = _windows(layout, shifted=wants_shifted)
        order = None
        if wants_shifted != shifted:
            order = layout.shift if wants_shifted else layout.unshift
            if order is not None and not isinstance(own[0], FusedBlock):
                x, shifted, order = x.index_select(1, order), wants_shifted, None
        opened = None if gating is None else gating.blocks[number]
        last = number == len(blocks[0]) - 1
        streams = gating.streams if gating is not None and last else None
        entered = x if streams is None else x.clone()
        if isinstance(own[0], FusedBlock):
            made = _run_fused(own, x, Region(windows, order, opened), plan.tasks, streams)
            features = StageFeatures(*made, entered, _written(made, opened, streams, order), 0)
        else:
            some = None if streams is None or plan.all_streams else streams.any(dim=0)
            made = _run_tasks(own, x, windows, plan.heads[index], opened, some)
            features = StageFeatures(*made, entered, None, 0)
    return _of_wanted(features._replace(shift=shape.shift if shifted else 0), plan, gating)


def _windows(layout: StageWindows, *, shifted: bool) -> Windows:
    return layout.shifted if shifted and layout.shifted is not None else layout.plain


def _of_wanted(features: StageFeatures, plan: Plan, gating: StageGating | None) -> StageFeatures:
    """Streams of the tasks wanted; what gates close and torch has computed all the same is put back."""
    if features.streams is None:
        return features
    if plan.all_streams and plan.tasks is not None:
        features = features._replace(streams=features.streams.index_select(1, plan.tasks))
    if features.written is None and gating is not None and gating.streams is not None:
        everywhere = gating.streams[..., None].expand(-1, -1, features.shared.shape[1])
        features = features._replace(written=everywhere)
    return features


def _written(made: Features, opened: Tensor | None, streams: Tensor | None, order: Tensor | None) -> Tensor | None:
    """Where a block in native code has written streams: bool [n, T, L], or None: everywhere."""
    if made.streams is None or (opened is None and streams is None):
        return None
    items, tasks, tokens, _ = made.streams.shape
    written = torch.ones(items, tasks, tokens, dtype=torch.bool)
    if opened is not None:
        written &= open_tokens(opened, tokens // opened.shape[1], order)[:, None]
    if streams is not None:
        written &= streams[:, :, None]
    return written


def _run_fused(
    blocks: Sequence[FusedBlock], x: Tensor, region: Region, wanted: Tensor | None, streams: Tensor | None
) -> Features:
    """One block in native code; images of one set that stand together go in one call."""
    if all(block is blocks[0] for block in blocks):
        return Features(x, blocks[0].run(x, region, wanted, streams))
    made = []
    for item, block in enumerate(blocks):
        one = slice(item, item + 1)
        own = region if region.open is None else region._replace(open=region.open[one])
        made.append(block.run(x[one], own, wanted, None if streams is None else streams[one]))
    given = [own for own in made if own is not None]
    return Features(x, torch.cat(given) if given else None)


def _run_tasks(
    blocks: Sequence[Block], x: Tensor, windows: Windows, heads: int, opened: Tensor | None, some: Tensor | None
) -> Features:
    """One block in torch; streams of other tasks hold nothing. some: bool [T], tasks to compute; None: all."""
    if some is None or bool(some.all()) or not blocks[0].gives_streams:
        return _run_torch(blocks, x, windows, heads, opened)
    index = some.nonzero().flatten()
    if not len(index):  # a block needs one at least
        index = torch.zeros(1, dtype=torch.int64, device=x.device)
    shared, made = _run_torch([block.of_tasks(index) for block in blocks], x, windows, heads, opened)
    if made is None:
        return Features(shared, None)
    streams = made.new_empty(len(made), len(some), *made.shape[2:])
    streams[:, index] = made
    return Features(shared, streams)


def _run_torch(blocks: Sequence[Block], x: Tensor, windows: Windows, heads: int, opened: Tensor | None) -> Features:
    """One block in torch; x comes in the block's order."""
    if of_items.takes_turns(x):
        if opened is None:
            return _run_tiles(blocks, x, windows, heads)
        return run_some_in_turn(blocks, x, windows, heads, opened, max(1, ROWS_AT_ONCE // windows.masks.shape[-1]))
    if opened is None:
        return _run_at_once(blocks, x, windows, heads)
    return run_some_at_once(stacked(blocks), x, windows, heads, opened)


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
