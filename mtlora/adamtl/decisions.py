"""What a forward pass decided: the logits and gates of every selector, and the gates that were used."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

ByOwner = dict[str, Tensor]


@dataclass(slots=True)
class StageDecisions:
    """One stage, with D blocks of L tokens; B images. NaN: not computed, since the block is closed.

    block_logits, block_gates: float [B, D] by owner; empty without block selectors
    token_logits, token_gates: float [B, D, L] by owner; empty without token selectors
    blocks: float [B, D], the gates that were used, united; 1 without block selectors
    tokens: float [B, D, L] likewise; in evaluation 0 in closed blocks
    """

    blocks: Tensor
    block_logits: ByOwner = field(default_factory=dict)
    block_gates: ByOwner = field(default_factory=dict)
    token_logits: ByOwner = field(default_factory=dict)
    token_gates: ByOwner = field(default_factory=dict)
    _used: list[Tensor] = field(default_factory=list)

    @property
    def tokens(self) -> Tensor:
        """float [B, D, L]; see above."""
        return torch.stack(self._used, dim=1)

    def add_block(self, used: Tensor, logits: ByOwner, gates: ByOwner) -> None:
        """Token gates of the next block: float [B, L], as used and by owner."""
        self._used.append(used)
        for known, new in ((self.token_logits, logits), (self.token_gates, gates)):
            for owner, values in new.items():
                parts = [known[owner]] if owner in known else []
                known[owner] = torch.cat([*parts, values[:, None]], dim=1)


Decisions = list[StageDecisions]
"""Of stages 0..3."""
