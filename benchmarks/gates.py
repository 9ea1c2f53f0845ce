"""Random gates that leave a given share of an encoder's multiply-adds."""

import torch
from torch import Tensor

from mtlora.model.gates import Gates, StageGates
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.spec import AdapterSpec


def gates_of_share(spec: AdapterSpec, share: float, seed: int) -> Gates:
    """Of one image: random blocks are closed, and of the others random windows, until about the share is left.

    Half of what is saved (as factors) is saved by blocks, half by windows.
    """
    chance = torch.Generator().manual_seed(seed)
    flat = torch.tensor([cost for own in multiply_adds(spec).blocks for cost in own], dtype=torch.float64)
    opened = torch.ones(len(flat), dtype=torch.bool)
    for block in torch.randperm(len(flat), generator=chance):
        left = float(flat[opened].sum() - flat[block]) / float(flat.sum())
        if left < share**0.5:
            continue
        opened[block] = False
    windows_share = min(1.0, share * float(flat.sum()) / float(flat[opened].sum()))
    sides, windows = spec.backbone.stage_sides(spec.image_size), spec.backbone.window_sides(spec.image_size)
    stages, first = [], 0
    for stage, depth in enumerate(spec.backbone.depths):
        count = (sides[stage] // windows[stage]) ** 2
        drawn = torch.stack([_some(count, windows_share, chance) for _ in range(depth)])
        stages.append(StageGates(opened[None, first : first + depth], drawn[None], {}))
        first += depth
    return tuple(stages)  # type: ignore[return-value]


def _some(count: int, share: float, chance: torch.Generator) -> Tensor:
    """bool [count], so many of them true, rounded at random."""
    number = int(share * count + float(torch.rand(1, generator=chance)))
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[torch.randperm(count, generator=chance)[:number]] = True
    return chosen
