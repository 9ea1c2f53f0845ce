"""Selectors: the small networks whose logits decide which blocks and tokens are computed."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

_INITIAL_STD = 0.02


class BlockSelector(nn.Module):
    """Reads all tokens at the entry of a stage; one logit for each of its blocks."""

    def __init__(self, width: int, tokens: int, blocks: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(tokens * hidden, blocks)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, L, C] -> logits float [B, D]."""
        logits: Tensor = self.out(F.relu(self.hidden(x)).flatten(1))
        return logits


class TokenSelector(nn.Module):
    """Reads the input of a block, each token for itself; one for all blocks of a stage."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, 1)
        for linear in (self.hidden, self.out):
            nn.init.trunc_normal_(linear.weight, std=_INITIAL_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, L, C] -> logits float [B, L]."""
        logits: Tensor = self.out(F.relu(self.hidden(x)))
        return logits.squeeze(-1)


class Selectors(nn.Module):
    """All selectors of a model, by owner and stage: `blocks`, `tokens`; empty where there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict()
        self.tokens = nn.ModuleDict()

    def add(self, owner: str, blocks: Sequence[BlockSelector], tokens: Sequence[TokenSelector]) -> None:
        """The selectors of one owner, one for each stage, or none."""
        if blocks:
            self.blocks[owner] = nn.ModuleList(blocks)
        if tokens:
            self.tokens[owner] = nn.ModuleList(tokens)

    def block_logits(self, owner: str, stage: int, x: Tensor) -> Tensor:
        """float [B, L, C] -> float [B, D]."""
        stages: nn.ModuleList = self.blocks[owner]  # type: ignore[assignment]
        logits: Tensor = stages[stage](x)
        return logits

    def token_logits(self, owner: str, stage: int, x: Tensor) -> Tensor:
        """float [B, L, C] -> float [B, L]."""
        stages: nn.ModuleList = self.tokens[owner]  # type: ignore[assignment]
        logits: Tensor = stages[stage](x)
        return logits
