"""Optimisers and schedules: AdamW as published, and Muon for training matrices from scratch on few steps.

Muon (K. Jordan, 2024) steps along the orthogonalised momentum of each matrix; scaled by 0.2 * sqrt(longer side) its
steps are as long as AdamW's (J. Liu et al., 2025), so one learning rate serves both.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.trainable import is_policy

BETAS = (0.9, 0.999)
POLICY_RATE = 10.0
"""Learning rate of a policy beside that of the rest: its gates have far to go from open to closed."""

_NO_DECAY_SUFFIX = "relative_position_bias_table"
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic that drives singular values to about 1 in five steps
_ITERATIONS = 5


class OptimizerKind(StrEnum):
    """What `pretrain` can optimise with."""

    ADAMW = "adamw"
    MUON = "muon"


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay acts on a parameter: not on one-dimensional ones and position bias tables."""
    return parameter.ndim > 1 and not name.endswith(_NO_DECAY_SUFFIX)


def build_adamw(named: Iterable[tuple[str, nn.Parameter]], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the parameters that require gradients, decay where `decays` says so; a policy's are never decayed.

    A group's `rate` multiplies the learning rate of a step.
    """
    wanted = [(name, p) for name, p in named if p.requires_grad]
    if not wanted:
        raise TrainingError("nothing to train: no parameter requires a gradient")
    usual = [(name, p) for name, p in wanted if not is_policy(name)]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in usual if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in usual if not decays(name, p)], "weight_decay": 0.0},
        {"params": [p for name, p in wanted if is_policy(name)], "weight_decay": 0.0, "rate": POLICY_RATE},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=BETAS)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Nearest half-orthogonal matrices, approximately (Newton-Schulz); float [..., rows, columns] -> the same."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for two-dimensional hidden weights; the rest belongs to AdamW.

    With several processes each orthogonalises its share of the matrices, and `share` adds up the updates.
    """

    def __init__(
        self,
        params: Sequence[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        rank: int = 0,
        processes: int = 1,
        share: Callable[[Tensor], None] | None = None,
    ) -> None:
        bad = [tuple(p.shape) for p in params if p.ndim != 2]
        if bad:
            raise TrainingError(f"Muon takes matrices only, got {bad[0]}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._rank, self._processes, self._share = rank, processes, share

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients; no closure."""
        if closure is not None:
            raise TrainingError("Muon takes no closure")
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            updates = torch.zeros(sum(p.numel() for p in params), device=params[0].device)
            views = [
                v.view_as(p) for v, p in zip(torch.split(updates, [p.numel() for p in params]), params, strict=True)
            ]
            self._directions(params, views, group["momentum"])
            if self._share is not None:
                self._share(updates)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_sub_(params, views, alpha=group["lr"])

    def _directions(self, params: list[nn.Parameter], views: list[Tensor], momentum: float) -> None:
        """Follow the gradients and write this process's share of the updates into `views`, shape by shape."""
        gradients = [p.grad for p in params if p.grad is not None]
        buffers = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in params]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        shapes: dict[torch.Size, list[int]] = {}
        for number, p in enumerate(params):
            if number % self._processes == self._rank:
                shapes.setdefault(p.shape, []).append(number)
        for shape, numbers in shapes.items():
            steps = torch.stack([torch.lerp(gradients[n], buffers[n], momentum) for n in numbers])  # Nesterov
            for number, step in zip(numbers, orthogonalise(steps) * (0.2 * math.sqrt(max(shape))), strict=True):
                views[number].copy_(step)


def learning_rate(
    step: int, *, steps: int, peak: float, warmup: int, hold: float = 0.0, floor: float = 0.0, start: float = 0.0
) -> float:
    """Learning rate of step 0..steps-1: linearly from `start` to `peak`, held until `hold` of them, cosine to `floor`.

    hold: share of the steps, 0..1; 0 is the published recipe
    """
    if step < warmup:
        return start + (peak - start) * (step + 1) / warmup
    fall = max(warmup, int(hold * steps))
    if step < fall:
        return peak
    progress = (step - fall) / max(1, steps - fall)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
