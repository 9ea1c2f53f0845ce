"""How much of a model was computed: counts of blocks and tokens, as the published code reports them."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.adamtl.decisions import Decisions
from mtlora.adamtl.spec import AdaSpec, Policy


class Statistics(NamedTuple):
    """Counts of every image, float64 [B].

    blocks, all_blocks: open blocks, and how many there are
    tokens, all_tokens: open tokens over all blocks, and how many there are; those of closed blocks are not open
    agreeing: tokens about which all tasks say the same, over all blocks; all of them where there is one policy
    """

    blocks: Tensor
    all_blocks: Tensor
    tokens: Tensor
    all_tokens: Tensor
    agreeing: Tensor


def statistics(spec: AdaSpec, decisions: Decisions) -> Statistics:
    """What the gates of an evaluation add up to.

    With the quirk `closed_blocks_listed_twice`, a model that runs in full counts the tokens of a block that its gate
    would close twice among all tokens: once closed, and once as its selectors say.
    """
    blocks = sum_of(decided.blocks.double().sum(dim=1) for decided in decisions)
    all_blocks = sum_of(torch.full_like(blocks, decided.blocks.shape[1]) for decided in decisions)
    tokens = sum_of(decided.tokens.double().sum(dim=(1, 2)) for decided in decisions)
    all_tokens = sum_of(torch.full_like(blocks, decided.tokens[0].numel()) for decided in decisions)
    agreeing = sum_of(_agreeing(spec, decisions))
    if spec.quirks.closed_blocks_listed_twice and not spec.adaptive:
        again = sum_of((decided.blocks == 0).sum(dim=1) * decided.tokens.shape[2] for decided in decisions)
        all_tokens, agreeing = all_tokens + again, agreeing + again
    return Statistics(blocks, all_blocks, tokens, all_tokens, agreeing)


def sum_of(parts: Iterable[Tensor]) -> Tensor:
    """Sum of tensors of one shape, one for each stage."""
    return torch.stack(list(parts)).sum(dim=0)


def _agreeing(spec: AdaSpec, decisions: Decisions) -> list[Tensor]:
    found = []
    for decided in decisions:
        if spec.policy is Policy.SINGLE or not decided.token_gates:
            found.append(torch.full_like(decided.blocks[:, 0], decided.tokens[0].numel(), dtype=torch.float64))
            continue
        gates = torch.stack(list(decided.token_gates.values())).nan_to_num(0.0)
        found.append((gates == gates[0]).all(dim=0).double().sum(dim=(1, 2)))
    return found
