"""The share of an encoder's multiply-adds that gates leave, by formula.

Counted are the blocks: linears, attention and the tasks' pairs, shared pairs as part of the weights. Patch embedding,
patch merging, projections and decoders are computed whatever the gates say, and are in neither side of the share.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.model.gates import Gates
from mtlora.vocabulary.adapted_linears import adapted_linears, gives_streams
from mtlora.vocabulary.encoder_shapes import block_linear_sizes
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.vocabulary.tasks import Task


class StageCosts(NamedTuple):
    """Multiply-adds of a stage for one image."""

    blocks: tuple[int, ...]  # of each block's shared path, in mode `addition` with the tasks' pairs that shape it
    streams: dict[Task, int]  # of each wanted task's own stream through the last block


def stage_costs(spec: AdapterSpec, tasks: Sequence[Task]) -> tuple[StageCosts, ...]:
    """Of the stages, where these tasks are wanted."""
    added = spec.mode is SharedMode.ADDITION
    sides, windows = spec.backbone.stage_sides(spec.image_size), spec.backbone.window_sides(spec.image_size)
    costs = []
    for stage, depth in enumerate(spec.backbone.depths):
        tokens = sides[stage] ** 2
        linears = sum(out * inputs for out, inputs in block_linear_sizes(spec.backbone, stage).values())
        plain = tokens * (linears + 2 * windows[stage] ** 2 * spec.backbone.stage_dims[stage])
        pairs = [_pair_costs(spec, stage, number, tokens) for number in range(depth)]
        blocks = tuple(plain + (sum(own.values()) if added else 0) for own in pairs)
        streams = {} if added else {task: pairs[-1].get(task, 0) for task in tasks}
        costs.append(StageCosts(blocks, streams))
    return tuple(costs)


def compute_share(gates: Gates, spec: AdapterSpec, tasks: Sequence[Task]) -> Tensor:
    """Multiply-adds of the encoder's blocks with these gates, over those without gates: float64 [N], 0..1, by image.

    tasks: those wanted
    """
    costs = stage_costs(spec, tasks)
    total = sum(sum(own.blocks) + sum(own.streams.values()) for own in costs)
    share = torch.zeros(len(gates[0].blocks), dtype=torch.float64)
    for own, cost in zip(gates, costs, strict=True):
        part = own.blocks.double().cpu()  # [N, D], of each block's tokens
        if own.windows is not None:
            part *= own.windows.double().mean(dim=2).cpu()
        share += part @ torch.tensor(cost.blocks, dtype=torch.float64)
        for task, macs in cost.streams.items():
            opened = own.streams[task].double().cpu() if task in own.streams else 1.0
            share += part[:, -1] * opened * macs
    return share / total


def _pair_costs(spec: AdapterSpec, stage: int, block: int, tokens: int) -> dict[Task, int]:
    """Of each task's pairs in a block whose streams are read."""
    if not gives_streams(spec, stage, block):
        return {}
    costs = dict.fromkeys(spec.task_names, 0)
    for linear in adapted_linears(spec):
        if (linear.stage, linear.block) == (stage, block):
            for task, pair in zip(spec.task_names, linear.tasks, strict=False):  # none where it does not split
                costs[task] += 0 if pair is None else tokens * pair.rank * (pair.in_features + pair.out_features)
    return costs
