"""The multiply-adds of an AdaMTL model: without gates, and of images whose gates are known. All float64, exact."""

import torch
from torch import Tensor

from mtlora.adamtl.decisions import Decisions
from mtlora.adamtl.spec import AdaSpec, AdaTask
from mtlora.vocabulary.spec import IN_CHANNELS, PATCH_SIZE

_UPSAMPLING = (1, 4, 16, 16)  # output positions for each position of the four scales
_FINAL_NORM_SHIFT = 4  # the published sum has a norm that the model has not: 8C * L_0 / 2^4


def static_multiply_adds(spec: AdaSpec) -> float:
    """Of an image without any gates: every block in full, no selectors, all decoders."""
    return encoder_multiply_adds(spec) + sum(decoder_multiply_adds(spec, task) for task in spec.tasks)


def encoder_multiply_adds(spec: AdaSpec) -> float:
    """Of the encoder without any gates."""
    blocks = sum(
        depth * (_attention(spec, stage) + _mlp(spec, stage, tokens))
        for stage, (depth, tokens) in enumerate(zip(spec.backbone.depths, spec.stage_tokens, strict=True))
    )
    return _around_blocks(spec) + blocks


def decoder_multiply_adds(spec: AdaSpec, task: AdaTask) -> float:
    """Of one task's decoder, without the last upsampling."""
    d, total = spec.decoder_channels, 0
    sides = spec.backbone.feature_sides(spec.image_size)
    for width, side, factor in zip(spec.backbone.feature_dims, sides, _UPSAMPLING, strict=True):
        positions = side * side
        total += positions * (10 * width * d + 27 * d * d + 10 * d + 4 * d + factor * d)
    return total + sides[0] ** 2 * (4 * d * d + d + 2 * d + d + d * task.outputs + task.outputs)


def multiply_adds(spec: AdaSpec, decisions: Decisions) -> Tensor:
    """Of every image: float64 [B]. Token selectors are counted where they ran; block selectors unless the quirk is on.

    A model that runs in full whatever its gates say takes the multiply-adds of one without gates, and, without the
    quirk, those of its selectors.
    """
    decoders = sum(decoder_multiply_adds(spec, task) for task in spec.tasks)
    total = block_multiply_adds(spec, decisions).sum(dim=1) + _around_blocks(spec) + decoders
    if spec.ada_tokens and (spec.adaptive or not spec.quirks.block_selectors_cost_nothing):
        total = total + _token_selectors(spec, decisions)
    if spec.ada_blocks and not spec.quirks.block_selectors_cost_nothing:
        total = total + _block_selectors(spec)
    return total


def block_multiply_adds(spec: AdaSpec, decisions: Decisions) -> Tensor:
    """Of every block: float64 [B, sum of D]; 0 where it is closed or no token is open."""
    costs = []
    for stage, decided in enumerate(decisions):
        tokens, blocks = decided.tokens.double(), decided.blocks.double()
        if not spec.adaptive:
            tokens, blocks = torch.ones_like(tokens), torch.ones_like(blocks)
        opened = tokens.sum(dim=2)
        cost = _attention(spec, stage) + opened * _mlp(spec, stage, 1)
        costs.append(torch.where((blocks > 0) & (opened > 0), cost, 0.0))
    return torch.cat(costs, dim=1)


def _attention(spec: AdaSpec, stage: int) -> int:
    """Of a block without its MLP: norms, and attention of all windows."""
    width, tokens = spec.backbone.stage_dims[stage], spec.stage_tokens[stage]
    window = spec.backbone.window_sides(spec.image_size)[stage] ** 2
    return 2 * tokens * width + tokens // window * (4 * window * width**2 + 2 * window**2 * width)


def _mlp(spec: AdaSpec, stage: int, tokens: int) -> float:
    width = spec.backbone.stage_dims[stage]
    return 2 * tokens * width**2 * spec.backbone.mlp_ratio


def _around_blocks(spec: AdaSpec) -> float:
    """Patch embedding, patch merging, and the final norm of the published sum."""
    backbone = spec.backbone
    tokens, width = spec.stage_tokens, backbone.stage_dims
    patches = IN_CHANNELS * PATCH_SIZE**2 * tokens[0] * width[0] + tokens[0] * width[0]
    merging = sum(tokens[s] * width[s] + 2 * tokens[s] * width[s] ** 2 for s in range(len(width) - 1))
    return patches + merging + (width[-1] * tokens[0] >> _FINAL_NORM_SHIFT)


def _token_selectors(spec: AdaSpec, decisions: Decisions) -> Tensor:
    """float64 [B]: one call for every executed block and owner."""
    hidden = spec.token_hidden
    parts = []
    for stage, decided in enumerate(decisions):
        width, tokens = spec.backbone.stage_dims[stage], spec.stage_tokens[stage]
        calls = (decided.blocks > 0).sum(dim=1).double()
        if not spec.adaptive:
            calls = torch.full_like(calls, decided.blocks.shape[1])
        parts.append(calls * len(spec.owners) * (tokens * width * hidden + tokens * hidden))
    return torch.stack(parts).sum(dim=0)


def _block_selectors(spec: AdaSpec) -> int:
    hidden = spec.block_hidden
    stages = zip(spec.backbone.stage_dims, spec.stage_tokens, spec.backbone.depths, strict=True)
    return len(spec.owners) * sum(tokens * width * hidden + tokens * hidden * depth for width, tokens, depth in stages)
