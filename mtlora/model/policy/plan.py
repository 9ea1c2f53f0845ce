"""Plans: from a pooled policy's logits to what is computed of each image, within a budget or above a threshold.

All of it happens in float64 with a fixed order of ties, image by image, so a plan follows from the logits alone.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlora.model.gates import Gates, StageGates
from mtlora.vocabulary.compute_costs import ComputeCosts, StageGrids
from mtlora.vocabulary.tasks import Task

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ROUNDING = 1e-9  # of the whole cost: sums of floats may miss a budget by so much


class Owners(NamedTuple):
    """Whose logits count in a request."""

    rows: tuple[int, ...]  # of the logits: of the requested tasks, or (0,), the one for all of them
    tasks: tuple[Task, ...]  # the requested ones
    apart: bool  # whether each has a row of its own

    @classmethod
    def of(cls, all_owners: Sequence[Task | None], tasks: Sequence[Task]) -> "Owners":
        """Of a request for these tasks, where the logits have these owners."""
        apart = tuple(all_owners) != (None,)
        return cls(tuple(map(all_owners.index, tasks)) if apart else (0,), tuple(tasks), apart)


class ImagePlan(NamedTuple):
    """What is computed of one image: of stages 0..3."""

    windows: list[Flags]  # [D, W]; W = 1 where windows have no gates
    streams: list[dict[Task, bool]]


def within_budget(
    logits: Sequence[Tensor], costs: ComputeCosts, owners: Owners, compute: float, *, windows: bool
) -> Gates:
    """Open what is worth most for its cost until the budget is spent; no image gets more than the budget.

    Worth is the odds that the policy gives a window (or block), for its part of the image; so the order is that of
    logit - ln(cost of the block), ties by stage, block, window. What does not fit any more is left out and the next
    is tried. A task's own stream is computed where its own logit would have been among those opened.

    logits:  of stages 0..3, float [N, rows, D, W]
    compute: share of the cost of all blocks, streams of the requested tasks included
    """
    values = _arrays(logits)
    return _gates([_spend(_image(values, n), costs, owners, compute) for n in range(len(values[0]))], logits, windows)


def above_threshold(logits: Sequence[Tensor], owners: Owners, threshold: float, *, windows: bool) -> Gates:
    """Open what has a logit above the threshold, whatever that costs. logits: of stages 0..3, float [N, rows, D, W]."""
    values = _arrays(logits)
    plans = []
    for n in range(len(values[0])):
        image = _image(values, n)
        union = [stage[list(owners.rows)].max(axis=0) > threshold for stage in image]
        plans.append(ImagePlan(union, [_streams(stage, owners, threshold) for stage in image]))
    return _gates(plans, logits, windows)


def shares(
    gates: Sequence[StageGates],
    costs: ComputeCosts,
    tasks: Sequence[Task],
    computed: Sequence[Tensor] | None = None,
) -> Tensor:
    """What each image computes, as a share of a plain pass for these tasks: float64 [N]; gradients pass.

    computed: the part of each block of stages 0..3, float [N, D], where that is not what the gates say
    """
    device = gates[0].blocks.device
    spent = torch.zeros(len(gates[0].blocks), dtype=torch.float64, device=device)
    for number, stage in enumerate(gates):
        opened = (open_shares(stage) if computed is None else computed[number]).double()
        spent = spent + opened @ torch.tensor(costs.blocks[number], dtype=torch.float64, device=device)
        for task in tasks:
            if cost := costs.streams.get(task, (0.0,) * 4)[number]:
                own = stage.streams.get(task)
                spent = spent + cost * (opened[:, -1] if own is None else opened[:, -1] * own.double())
    return spent / costs.all_blocks(tasks)


def open_shares(stage: StageGates) -> Tensor:
    """The part of each block that is computed: float [N, D], 0..1."""
    blocks = stage.blocks.float()
    return blocks if stage.windows is None else blocks * stage.windows.float().mean(dim=2)


def windows_of(grids: StageGrids) -> tuple[int, ...]:
    """Windows of stages 0..3."""
    return tuple(grid.windows for grid in grids)


def _arrays(logits: Sequence[Tensor]) -> list[Array]:
    return [stage.detach().double().cpu().numpy() for stage in logits]


def _image(values: list[Array], n: int) -> list[Array]:
    return [stage[n] for stage in values]


class _Items(NamedTuple):
    """Everything that can be opened, in a fixed order: stage, block, window."""

    scores: Array
    costs: Array


def _spend(image: list[Array], costs: ComputeCosts, owners: Owners, compute: float) -> ImagePlan:
    """image: of stages 0..3, [rows, D, W]."""
    whole = costs.all_blocks(owners.tasks)
    budget = compute * whole * (1 + _ROUNDING)
    mean_cost = sum(map(sum, costs.blocks)) / sum(map(len, costs.blocks))
    prices = [np.log(np.array(stage) / mean_cost) for stage in costs.blocks]
    scored = [stage - price[:, None] for stage, price in zip(image, prices, strict=True)]
    union = [stage[list(owners.rows)].max(axis=0) for stage in scored]
    streams: list[dict[Task, bool]] = [{} for _ in scored]
    opened, last = _fill(_items(union, costs, owners, streams), budget)
    if owners.apart:  # streams that close leave something for others
        streams = [_streams(stage, owners, last, inclusive=True) for stage in scored]
        opened, _ = _fill(_items(union, costs, owners, streams), budget)
    sizes = [stage.size for stage in union]
    parts = np.split(opened, np.cumsum(sizes)[:-1])
    return ImagePlan([part.reshape(u.shape) for part, u in zip(parts, union, strict=True)], streams)


def _items(union: list[Array], costs: ComputeCosts, owners: Owners, streams: list[dict[Task, bool]]) -> _Items:
    each = []
    for stage, values in enumerate(union):
        price = np.array(costs.blocks[stage])
        price[-1] += sum(
            costs.streams.get(task, (0.0,) * 4)[stage] for task in owners.tasks if streams[stage].get(task, True)
        )
        each.append(np.repeat(price / values.shape[1], values.shape[1]))
    return _Items(np.concatenate([values.ravel() for values in union]), np.concatenate(each))


def _fill(items: _Items, budget: float) -> tuple[Flags, float]:
    """What is opened, and the score of the last that was before one did not fit (infinite: none)."""
    order = np.argsort(-items.scores, kind="stable")
    spent = np.cumsum(items.costs[order])
    fitting = int(np.searchsorted(spent, budget, side="right"))
    opened = np.zeros(len(order), dtype=np.bool_)
    opened[order[:fitting]] = True
    rest = budget - (spent[fitting - 1] if fitting else 0.0)
    smallest = items.costs.min()
    for number in order[fitting:]:
        if rest < smallest:
            break
        if items.costs[number] <= rest:
            opened[number] = True
            rest -= items.costs[number]
    return opened, float(items.scores[order[fitting - 1]]) if fitting else math.inf


def _streams(stage: Array, owners: Owners, bar: float, *, inclusive: bool = False) -> dict[Task, bool]:
    """Whether a task would open anything of the stage's last block by itself. stage: [rows, D, W]."""
    if not owners.apart:
        return {}
    own = {task: stage[row, -1].max() for task, row in zip(owners.tasks, owners.rows, strict=True)}
    return {task: bool(value >= bar if inclusive else value > bar) for task, value in own.items()}


def _gates(plans: list[ImagePlan], logits: Sequence[Tensor], windows: bool) -> Gates:
    first, second, third, fourth = (_stage_gates(plans, stage, logits[stage], windows) for stage in range(4))
    return first, second, third, fourth


def _stage_gates(plans: list[ImagePlan], stage: int, like: Tensor, windows: bool) -> StageGates:
    opened = torch.from_numpy(np.stack([plan.windows[stage] for plan in plans])).to(like.device)  # [N, D, W]
    tasks = plans[0].streams[stage]
    streams = {task: torch.tensor([plan.streams[stage][task] for plan in plans], device=like.device) for task in tasks}
    return StageGates(opened.any(dim=2), opened if windows else None, streams)
