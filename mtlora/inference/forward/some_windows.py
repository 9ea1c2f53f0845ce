"""One block in torch over the windows that gates leave open; what is closed stays as it is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtlora.inference.forward.block import Features, run_block
from mtlora.inference.forward.windows import Windows
from mtlora.inference.prepare.int8 import IntegerWeight
from mtlora.inference.prepare.layers import Block, Linear, Norm, Pair, TaskLinear, TaskPairs


def run_some_in_turn(
    blocks: Sequence[Block], x: Tensor, windows: Windows, heads: int, opened: Tensor, at_once: int
) -> Features:
    """One image after the other, each with its own block; the shared path overwrites x.

    x:       float [n, L, C] in the order of `windows`
    opened:  bool [n, W]
    at_once: windows, to bound memory
    """
    streams = _unchanged(blocks[0], x)
    for item, block in enumerate(blocks):
        rows = _by_window(x[item], opened.shape[1])
        numbers = opened[item].nonzero().flatten()
        for chosen in numbers.split(at_once) if len(numbers) else ():
            some = rows.index_select(0, chosen)
            position = block.position[0].index_select(0, windows.kinds[chosen])
            tile = run_block(block, some.view(1, -1, some.shape[2]), position, heads)
            rows.index_copy_(0, chosen, tile.shared.view(some.shape))
            if streams is not None and tile.streams is not None:
                own = streams[item].view(len(streams[item]), *rows.shape)
                own.index_copy_(1, chosen, tile.streams.view(-1, *some.shape))
    return Features(x, streams)


def run_some_at_once(block: Block, x: Tensor, windows: Windows, heads: int, opened: Tensor) -> Features:
    """All images together, each with as many windows as the fullest: what fills them up is dropped.

    block: for all images, or with tensors for each
    """
    streams = _unchanged(block, x)
    items = opened.any(dim=1).nonzero().flatten()
    if not len(items):
        return Features(x, streams)
    count, tokens, width = opened.shape[1], x.shape[1] // opened.shape[1], x.shape[2]
    own = opened.index_select(0, items)
    most = int(own.sum(dim=1).max())
    chosen = own.int().argsort(dim=1, descending=True, stable=True)[:, :most]  # open ones first
    of_item = items[:, None].expand_as(chosen)
    block = _of_items(block, items)
    rows = x.view(len(x), count, tokens, width).clone()
    alone = len(block.position) == 1
    position = block.position[
        0 if alone else torch.arange(len(items), device=x.device)[:, None], windows.kinds.long()[chosen]
    ]
    made = run_block(block, rows[of_item, chosen].view(len(items), -1, width), position.flatten(0, 1), heads)
    kept = own.gather(1, chosen)
    places = of_item[kept], chosen[kept]
    rows[places] = made.shared.view(len(items), most, tokens, width)[kept]
    if streams is not None and made.streams is not None:
        by_window = made.streams.view(len(items), -1, most, tokens, width).transpose(1, 2)
        streams.view(*streams.shape[:2], count, tokens, width).transpose(1, 2)[places] = by_window[kept]
    return Features(rows.view(x.shape), streams)


def _unchanged(block: Block, x: Tensor) -> Tensor | None:
    """Streams where everything is closed: float [n, T, L, C], or None where a block has none."""
    for linear in (block.proj, block.fc2):
        if isinstance(linear, TaskLinear):
            return x[:, None].repeat(1, linear.tasks.a.shape[1], 1, 1)
    return None


def _by_window(x: Tensor, windows: int) -> Tensor:
    """float [L, C] -> [W, N, C], the same memory."""
    return x.view(windows, -1, x.shape[1])


def _of_items(block: Block, items: Tensor) -> Block:
    """The block for some images, where it has tensors for each."""

    def some(tensor: Any, dimensions: int) -> Any:
        if tensor is None or tensor.ndim < dimensions or len(tensor) == 1:
            return tensor
        return tensor.index_select(0, items)

    def norm(own: Norm) -> Norm:
        return Norm(some(own.weight, 2), some(own.bias, 2))

    def linear(own: Any) -> Any:
        if isinstance(own, TaskLinear):
            tasks = TaskPairs(some(own.tasks.a, 4), some(own.tasks.b, 4))
            return replace(own, linear=linear(own.linear), tasks=tasks, norm=own.norm and norm(own.norm))
        weight = own.weight
        if isinstance(weight, IntegerWeight):
            weight = IntegerWeight(some(weight.values, 3), some(weight.scale, 2))
        else:
            weight = some(weight, 3)
        pair = own.pair and Pair(some(own.pair.a, 3), some(own.pair.b, 3))
        return Linear(weight, some(own.bias, 2), pair)

    return Block(
        norm1=norm(block.norm1),
        qkv=linear(block.qkv),
        position=some(block.position, 5),
        proj=linear(block.proj),
        norm2=norm(block.norm2),
        fc1=linear(block.fc1),
        fc2=linear(block.fc2),
    )
