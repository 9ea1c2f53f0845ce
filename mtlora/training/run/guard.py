"""The guard of a run: stops it when the loss is not finite or runs away, or when weights grow too large."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mtlora.vocabulary.errors import TrainingError

FIRST_STEPS = 10
"""The mean loss of so many first steps is what later losses are compared with."""

WORSE, RUNAWAY = 1.5, 3.0
"""Multiples of the first losses: above the one no checkpoint is replaced, above the other the run stops."""

FILE_LIMIT = torch.finfo(torch.float16).max
"""Results are float16 files: a weight or a BatchNorm statistic above it could not be written at the end."""

_DECAY = 0.9


@dataclass(slots=True)
class Guard:
    """Follows the loss of every step; `first` and `level` belong into the checkpoint.

    compares: whether later losses are held against the first; not where a run makes them rise on purpose, as one does
              that learns to compute less
    """

    compares: bool = True
    folder: Path | None = None
    saved_step: int = 0
    seen: int = 0
    first: float = 0.0
    level: float = 0.0

    def see(self, step: int, loss: float, norm: float | None) -> None:
        """Take in the loss and the gradients' norm of a step, before they change any weight; may stop the run."""
        if not math.isfinite(loss) or (norm is not None and not math.isfinite(norm)):
            told = f"the loss is {loss}" if not math.isfinite(loss) else f"the loss is {loss:.4g}, its gradient {norm}"
            raise TrainingError(f"{told} at step {step}; {self._way_out()}")
        self.seen += 1
        if self.seen <= FIRST_STEPS:
            self.first += (loss - self.first) / self.seen
            self.level = self.first
            return
        if not self.compares:
            return
        self.level += (1 - _DECAY) * (loss - self.level)
        if self.level > RUNAWAY * self.first:
            raise TrainingError(
                f"the loss runs away: {self.level:.4g} at step {step}, {self.first:.4g} at the start; {self._way_out()}"
            )

    def keep(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Look at what a checkpoint is about to hold; stops the run where the file at the end could not hold it."""
        sizes = {name: t.detach().abs().max().float() for name, t in tensors.items() if t.is_floating_point()}
        if not sizes:
            return
        largest = dict(zip(sizes, torch.stack(list(sizes.values())).tolist(), strict=True))
        large = {name: value for name, value in largest.items() if not value <= FILE_LIMIT}
        if large:
            name, value = next(iter(large.items()))
            more = f" (and {len(large) - 1} more tensors)" if len(large) > 1 else ""
            raise TrainingError(
                f"the run diverges: values of {name}{more} have grown to {value:.3g} by step {step}, above the "
                f"{FILE_LIMIT:g} that a float16 file holds; {self._way_out()}"
            )

    @property
    def worse(self) -> bool:
        """Whether weights like these should not replace a checkpoint."""
        return self.level > WORSE * self.first

    def state(self) -> list[float]:
        """For the checkpoint."""
        return [float(self.seen), self.first, self.level]

    def restore(self, state: list[float]) -> None:
        """From a checkpoint."""
        seen, self.first, self.level = state
        self.seen = int(seen)

    def _way_out(self) -> str:
        if not self.saved_step:
            return "start again with a smaller learning rate (there is no checkpoint yet)"
        return (
            f"the last good checkpoint, of step {self.saved_step}, is in {self.folder}: "
            "a new run with --init on it and a smaller learning rate goes on from there"
        )
