"""The published losses of AdaMTL: of tasks, of efficiency, and of the selectors' pretraining."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.adamtl.decisions import Decisions
from mtlora.adamtl.spec import AdaSpec, LayerLoss, Policy
from mtlora.losses.dense import EDGE_POSITIVE_WEIGHT, balanced_bce, cross_entropy
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import IGNORE_INDEX, TRAITS, Task

STAGE_WEIGHTS = (96, 192, 384, 768)
"""Of tokens in stages 0..3, whatever the model: only their ratios count, but for the quirk `weights_on_shares`."""

_SMALL = 1e-12


class StepLosses(NamedTuple):
    """Losses of a batch, each a scalar.

    tasks:      of every task, without its weight
    weighted:   sum of the tasks' losses with their published weights
    efficiency: with its weight; 0 where there are no gates
    total:      weighted + efficiency
    """

    tasks: dict[Task, Tensor]
    weighted: Tensor
    efficiency: Tensor
    total: Tensor


def published_task_loss(task: Task, logits: Tensor, target: Tensor) -> Tensor:
    """Loss of one task, over labels as the published code has them: 255 is no label, but counts as salient.

    logits: float [B, K, S, S]
    target: float [B, 1, S, S], or [B, 3, S, S] of normals; classes, 0..1, metres or unit vectors
    """
    if target.ndim != 4 or target.shape[0] != logits.shape[0] or target.shape[2:] != logits.shape[2:]:
        raise TrainingError(f"task {task}: logits {list(logits.shape)} and target {list(target.shape)} do not fit")
    if TRAITS[task].outputs is None:
        return cross_entropy(logits, target[:, 0].long())
    if task is Task.SALIENCY:
        return balanced_bce(logits, target, (target < 0.5).to(logits).mean(), target.new_tensor(target.numel()))
    if task is Task.EDGE:
        return balanced_bce(logits, target, EDGE_POSITIVE_WEIGHT, target.new_tensor(target.numel()))
    if task is Task.NORMALS:
        logits = logits / (logits.norm(dim=1, keepdim=True) + _SMALL)
    known = target != IGNORE_INDEX
    return torch.where(known, (logits - target).abs(), 0.0).sum() / known.sum().clamp(min=1)


def step_losses(
    spec: AdaSpec, logits: Mapping[Task, Tensor], targets: Mapping[Task, Tensor], decisions: Decisions
) -> StepLosses:
    """Losses of a training step, over the tasks that have logits."""
    lacking = [task.value for task in logits if task not in targets]
    if lacking or not logits:
        raise TrainingError(f"targets are needed for {', '.join(lacking) or 'at least one task'}, got {list(targets)}")
    losses = {task: published_task_loss(task, each, targets[task]) for task, each in logits.items()}
    weighted = torch.stack([TRAITS[task].loss_weight * loss for task, loss in losses.items()]).sum()
    efficiency = spec.efficiency.weight * efficiency_loss(spec, decisions)
    return StepLosses(losses, weighted, efficiency, weighted + efficiency)


def efficiency_loss(spec: AdaSpec, decisions: Decisions) -> Tensor:
    """How far the shares of open blocks and tokens are from their targets, without the loss's weight; a scalar.

    Of a model that runs in full, what its gates say counts.
    """
    total = decisions[0].blocks.new_zeros(())
    if spec.ada_blocks:
        open_blocks = torch.cat([decided.blocks for decided in decisions], dim=1)
        total = total + _square(open_blocks.mean(dim=1) - spec.efficiency.blocks_target)
    if spec.ada_tokens:
        total = total + _tokens_loss(spec, _shares(spec, decisions))
        if spec.policy is Policy.PER_TASK and spec.efficiency.overlap_weight:
            total = total + spec.efficiency.overlap_weight * overlap_loss(spec, decisions)
    return total


def overlap_loss(spec: AdaSpec, decisions: Decisions) -> Tensor:
    """How far the tasks are from agreeing about all tokens; a scalar.

    Without the quirk `overlap_without_gradient` two tasks agree by the product of their gates: a gradient leads there.
    """
    weights = _stage_weights(spec)
    agreeing: list[Tensor] = []
    total = 0.0
    for decided, weight in zip(decisions, weights, strict=True):
        gates = torch.stack(list(decided.token_gates.values()))
        total += weight * gates[0, 0].numel()
        if spec.quirks.overlap_without_gradient:
            agreeing.append((gates == gates[0]).all(dim=0).to(gates).sum(dim=(1, 2)))
        else:
            agreeing.append(weight * (gates.prod(dim=0) + (1 - gates).prod(dim=0)).sum(dim=(1, 2)))
    return _square(torch.stack(agreeing).sum(dim=0) / total - 1)


def pretraining_loss(decisions: Decisions) -> Tensor:
    """Stage 2 teaches every selector to open everything: mean |1 - gate| of each, summed over all; a scalar."""
    total = decisions[0].blocks.new_zeros(())
    for decided in decisions:
        for gates in decided.block_gates.values():
            total = total + (1 - gates).abs().mean()
        for gates in decided.token_gates.values():
            total = total + (1 - gates).abs().mean(dim=(0, 2)).sum()
    return total


def _shares(spec: AdaSpec, decisions: Decisions) -> list[Tensor]:
    """Share of open tokens in every block: float [B, D] of each stage."""
    shares = []
    for decided in decisions:
        share = decided.tokens.mean(dim=2)
        closes = spec.ada_blocks and not spec.quirks.counts_tokens_of_closed_blocks
        shares.append(share * decided.blocks if closes else share)
    return shares


def _tokens_loss(spec: AdaSpec, shares: list[Tensor]) -> Tensor:
    layers = spec.efficiency.layers
    if layers is LayerLoss.PLAIN:
        return _whole_loss(spec, shares)
    if layers is LayerLoss.PER_LAYER:
        return _layers_loss(spec, shares)
    return 0.5 * _layers_loss(spec, shares) + 0.5 * _whole_loss(spec, shares)


def _whole_loss(spec: AdaSpec, shares: list[Tensor]) -> Tensor:
    """Of the share over all blocks of an image."""
    sizes = [w * tokens for w, tokens in zip(_stage_weights(spec), spec.stage_tokens, strict=True)]
    opened = torch.stack([size * share.sum(dim=1) for size, share in zip(sizes, shares, strict=True)]).sum(dim=0)
    total = sum(size * depth for size, depth in zip(sizes, spec.backbone.depths, strict=True))
    return _square(opened / total - spec.efficiency.tokens_target)


def _layers_loss(spec: AdaSpec, shares: list[Tensor]) -> Tensor:
    """Of the share of every block."""
    weights, target = _stage_weights(spec), spec.efficiency.tokens_target
    if spec.quirks.weights_on_shares:
        return _square(torch.cat([w * share for w, share in zip(weights, shares, strict=True)], dim=1) - target)
    squares = torch.cat([w * (share - target) ** 2 for w, share in zip(weights, shares, strict=True)], dim=1)
    total = sum(w * share.shape[1] for w, share in zip(weights, shares, strict=True))
    return squares.sum(dim=1).mean() / total


def _stage_weights(spec: AdaSpec) -> tuple[float, ...]:
    return STAGE_WEIGHTS if spec.efficiency.weighted else (1.0,) * len(STAGE_WEIGHTS)


def _square(difference: Tensor) -> Tensor:
    return difference.square().mean()
