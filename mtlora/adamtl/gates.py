"""Gates: from a logit to open or closed, and the union of several tasks' gates."""

from collections.abc import Sequence

import torch
from torch import Tensor

TEMPERATURE = 5.0
"""Of soft gates. On hard ones it acts through the gradient only: they are open where logit + noise is above 0."""


def gate(logit: Tensor, noise: Tensor, *, hard: bool) -> Tensor:
    """Open (1) or closed (0), with the gradient of a soft gate; or the soft gate itself, in 0..1.

    logit, noise: float of one shape; the gate has it too. Ties are closed.
    """
    argument = logit + noise
    soft = torch.sigmoid(argument / TEMPERATURE)
    if not hard:
        return soft
    return (argument > 0).to(soft.dtype) - soft.detach() + soft


def union(gates: Sequence[Tensor], *, clipped: bool) -> Tensor:
    """What at least one task wants.

    gates:   at least one, of one shape, 0..1, in the order of the tasks
    clipped: as published, added in order and clipped at 1; a gate then has a gradient only where no sum exceeds 1, so
             the order of tasks counts. Else 1 - prod(1 - gate), which has no order
    returns: of the same shape; for hard gates the logical or, either way
    """
    if clipped:
        united = gates[0]
        for other in gates[1:]:
            total = united + other
            # the gradient passes where the sum is exactly 1: torch's clamp did so once, and no longer does
            united = torch.where(total <= 1, total, torch.ones_like(total))
        return united
    closed = 1 - gates[0]
    for other in gates[1:]:
        closed = closed * (1 - other)
    return 1 - closed
