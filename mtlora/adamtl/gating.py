"""The gates of one forward pass: selectors asked, noise added, tasks united."""

from dataclasses import dataclass

from torch import Tensor

from mtlora.adamtl.decisions import ByOwner
from mtlora.adamtl.gates import gate, union
from mtlora.adamtl.noise import Noise
from mtlora.adamtl.selectors import Selectors
from mtlora.adamtl.spec import AdaSpec, Policy
from mtlora.vocabulary.tasks import Task


@dataclass(frozen=True, slots=True)
class Gating:
    """task: whose gates alone are used, in alternating training; None: those of all tasks, united."""

    spec: AdaSpec
    selectors: Selectors
    noise: Noise
    task: Task | None

    def blocks(self, stage: int, x: Tensor, rows: Tensor) -> tuple[ByOwner, ByOwner, Tensor]:
        """Logits and gates float [B, D] by owner, and the gates to use.

        x: float [B, L, C], input of the stage; rows: int64 [B], the images' indices
        """
        depth = self.spec.backbone.depths[stage]
        logits: ByOwner = {}
        gates: ByOwner = {}
        for owner in self._order():
            logits[owner] = self.selectors.block_logits(owner, stage, x)
            noise = self.noise.of_blocks(owner, stage, rows, depth)
            gates[owner] = gate(logits[owner], noise, hard=self._hard_blocks(owner))
        return logits, gates, self._used(gates)

    def tokens(self, stage: int, block: int, x: Tensor, rows: Tensor) -> tuple[ByOwner, ByOwner, Tensor]:
        """Logits and gates float [B, L] by owner, and the gates to use.

        x: float [B, L, C], input of the block; rows: int64 [B], the images' indices
        """
        logits: ByOwner = {}
        gates: ByOwner = {}
        for owner in self._order():
            logits[owner] = self.selectors.token_logits(owner, stage, x)
            noise = self.noise.of_tokens(owner, stage, block, rows, x.shape[1])
            gates[owner] = gate(logits[owner], noise, hard=self._hard_tokens())
        return logits, gates, self._used(gates)

    def _order(self) -> tuple[str, ...]:
        """In which noise is drawn: the given task before the others."""
        owners = self.spec.owners
        return tuple(sorted(owners, key=lambda owner: owner != self.task)) if self.task else owners

    def _used(self, gates: ByOwner) -> Tensor:
        if self.task and self.spec.policy is Policy.PER_TASK:
            return gates[self.task]
        return union([gates[owner] for owner in self.spec.owners], clipped=self.spec.quirks.clipped_union)

    def _hard_blocks(self, owner: str) -> bool:
        other = self.task is not None and self.spec.policy is Policy.PER_TASK and owner != self.task
        return self.spec.hard or (other and self.spec.quirks.hard_gates_of_other_tasks)

    def _hard_tokens(self) -> bool:
        forced = self.spec.quirks.hard_tokens_in_pretraining and self.spec.policy is Policy.SINGLE
        return self.spec.hard or forced
