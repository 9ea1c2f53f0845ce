"""The encoder's forward pass: stage by stage, with gates; in training masked, in evaluation skipped."""

from typing import Any

import torch
from torch import Tensor

from mtlora.adamtl.block import run_masked, run_open, run_whole
from mtlora.adamtl.decisions import ByOwner, Decisions, StageDecisions
from mtlora.adamtl.gating import Gating
from mtlora.adamtl.spec import AdaSpec


def encode(swin: Any, x: Tensor, gating: Gating) -> tuple[list[Tensor], Decisions]:
    """Features of the four stages after patch merging, as tokens [B, L', C'], and what was decided.

    swin: timm's encoder, whose mode says whether this is training
    x:    float [B, 3, S, S], normalised
    """
    x = swin.patch_embed(x)
    features: list[Tensor] = []
    decisions: Decisions = []
    for index, stage in enumerate(swin.layers):
        decided = _enter(index, x, gating)
        for number, block in enumerate(stage.blocks):
            run = _train_block if swin.training else _evaluate_block
            x = run(block, x, gating, decided, (index, number))
        if index + 1 < len(swin.layers):
            x = swin.layers[index + 1].downsample(x)
        features.append(x.flatten(1, 2))
        decisions.append(decided)
    return features, decisions


def _enter(stage: int, x: Tensor, gating: Gating) -> StageDecisions:
    if not gating.spec.ada_blocks:
        return StageDecisions(torch.ones(len(x), gating.spec.backbone.depths[stage], device=x.device))
    logits, gates, used = gating.blocks(stage, x.flatten(1, 2), _all_rows(x))
    return StageDecisions(used, logits, gates)


def _train_block(block: Any, x: Tensor, gating: Gating, decided: StageDecisions, place: tuple[int, int]) -> Tensor:
    """Every image goes through the block, and is mixed with what came by its gate."""
    spec: AdaSpec = gating.spec
    if spec.ada_tokens:
        logits, gates, mask = gating.tokens(*place, x.flatten(1, 2), _all_rows(x))
        decided.add_block(mask, logits, gates)
    else:
        mask = _ones(x)
        decided.add_block(mask, {}, {})
    if not spec.adaptive:
        return run_whole(block, x)
    if spec.ada_tokens and not spec.ada_blocks and spec.quirks.token_training_skips_blocks:
        return x
    if spec.ada_tokens:
        y = run_masked(
            *(block, x, mask),
            closed_add_norm=spec.quirks.closed_tokens_add_norm,
            exit_per_batch=spec.quirks.early_exit_per_batch,
        )
    else:
        y = run_whole(block, x)
    if not spec.ada_blocks:
        return y
    b = decided.blocks[:, place[1]].view(-1, 1, 1, 1)
    return b * y + (1 - b) * x


def _evaluate_block(block: Any, x: Tensor, gating: Gating, decided: StageDecisions, place: tuple[int, int]) -> Tensor:
    """Only images whose gate is open go through the block."""
    spec: AdaSpec = gating.spec
    rows = _all_rows(x)
    if spec.adaptive and spec.ada_blocks:
        rows = decided.blocks[:, place[1]].nonzero().flatten()
    chosen = x if len(rows) == len(x) else x[rows]
    mask = _ones(chosen)
    logits: ByOwner = {}
    gates: ByOwner = {}
    if spec.ada_tokens and len(rows):
        logits, gates, mask = gating.tokens(*place, chosen.flatten(1, 2), rows)
    elif spec.ada_tokens:
        logits = gates = dict.fromkeys(spec.owners, mask)
    decided.add_block(_spread(mask, rows, x, 0.0), _all(logits, rows, x), _all(gates, rows, x))
    if not len(rows):
        return x
    if spec.adaptive and spec.ada_tokens:
        y = run_open(block, chosen, mask != 0, closed_add_norm=spec.quirks.closed_tokens_add_norm)
    else:
        y = run_whole(block, chosen)
    return y if len(rows) == len(x) else x.index_copy(0, rows, y)


def _all_rows(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)


def _ones(x: Tensor) -> Tensor:
    """float [B, L] of float [B, H, W, C]."""
    return torch.ones(x.shape[0], x.shape[1] * x.shape[2], device=x.device)


def _spread(values: Tensor, rows: Tensor, x: Tensor, otherwise: float) -> Tensor:
    """Values [n, L] of some images among all: [B, L]."""
    if len(rows) == len(x):
        return values
    return values.new_full((len(x), values.shape[1]), otherwise).index_copy(0, rows, values)


def _all(values: ByOwner, rows: Tensor, x: Tensor) -> ByOwner:
    return {owner: _spread(each, rows, x, float("nan")) for owner, each in values.items()}
