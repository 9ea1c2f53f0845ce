"""Gates in training: hard values, and gradients as if they were soft."""

import torch
from torch import Tensor

from mtlora.model.gates import StageGates
from mtlora.model.gating import TokenGate
from mtlora.model.policy.plan import open_shares
from mtlora.model.policy.pooled import PolicyLogits, PooledPolicy
from mtlora.vocabulary.compute_costs import StageGrids
from mtlora.vocabulary.tasks import Task

TEMPERATURE = 2.0
"""Of pooled gates: their gradient is that of sigmoid(logit / temperature)."""


def straight_through(logits: Tensor, temperature: float) -> Tensor:
    """1 where a logit is above 0, else 0; the gradient is that of sigmoid(logit / temperature)."""
    soft = torch.sigmoid(logits / temperature)
    return (logits > 0).to(soft.dtype) + (soft - soft.detach())


def united(logits: Tensor, dim: int, temperature: float) -> Tensor:
    """1 where the logit of any owner along `dim` is above 0, else 0; the gradient is that of 1 - Π(1 - sigmoid).

    The owners' order does not matter, neither for the value nor for gradients. The product is of soft gates: of hard
    ones it is 0 for each of two that are open, so neither could ever learn to close.
    """
    soft = 1 - (1 - torch.sigmoid(logits / temperature)).prod(dim=dim)
    return (logits > 0).any(dim=dim).to(soft.dtype) + (soft - soft.detach())


class PooledTraining:
    """A pooled policy at work in training; see `Decision`. It decides once, at the entry of stage 0.

    tasks:   of the set, all of them
    compute: the budget that the policy is told
    """

    def __init__(self, policy: PooledPolicy, tasks: tuple[Task, ...], compute: float, grids: StageGrids) -> None:
        self._policy, self._tasks, self._compute, self._grids = policy, tasks, compute, grids
        self.gates: list[StageGates] = []

    def open_shares(self) -> list[Tensor]:
        """The part of each block that was computed: of stages 0..3 float [N, D]."""
        return [open_shares(stage) for stage in self.gates]

    def stage(self, stage: int, x: Tensor) -> StageGates:
        """See `Decision.stage`."""
        if stage == 0:
            self.gates = [self._of(logits) for logits in self._logits(x)]
        return self.gates[stage]

    def tokens(self, stage: int, block: int, x: Tensor) -> TokenGate | None:  # noqa: ARG002
        """See `Decision.tokens`."""
        return None

    def _logits(self, x: Tensor) -> PolicyLogits:
        with torch.autocast(x.device.type, enabled=False):
            logits: PolicyLogits = self._policy(x, self._compute, self._grids)
        return logits

    def _of(self, logits: Tensor) -> StageGates:
        """logits: float [N, owners, D, W]."""
        opened = united(logits, 1, TEMPERATURE)
        streams = {}
        if self._policy.owners != (None,):
            own = straight_through(logits[:, :, -1].amax(dim=2), TEMPERATURE)
            streams = {task: own[:, row] for row, task in enumerate(self._tasks)}
        if not self._policy.policy.windows:
            return StageGates(opened[..., 0], None, streams)
        return StageGates(opened.new_ones(opened.shape[:2]), opened, streams)
