"""AdaMTL's selectors on a frozen Swin with pairs: they decide stage by stage, block by block, from the features there.

A stage's block selector reads its whole input, so it fits one input side only. A stage's token selector is asked again
before each of its blocks. What differs from the publication: no noise but in training, a closed token adds nothing to
the features unless the set says so, shares count what is computed, and tasks unite whatever their order.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mtlora.model.gates import StageGates
from mtlora.model.gating import TokenGate
from mtlora.model.policy.plan import Owners
from mtlora.model.policy.pooled import START_LOGIT, TwoLayers
from mtlora.model.policy.soft import straight_through, united
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.policy import PolicySpec
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task

TEMPERATURE = 5.0
"""Of the gates' gradients in training, as published."""


class BlockSelector(nn.Module):
    """Linear and ReLU token by token, then one Linear over all units of all tokens (unit fastest)."""

    def __init__(self, inputs: int, hidden: int, tokens: int, blocks: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.out = nn.Linear(tokens * hidden, blocks)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, START_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        """Features float [N, H, W, C] -> logits float [N, D]."""
        units = torch.relu(self.hidden(x)).flatten(1)
        if units.shape[1] != self.out.in_features:
            raise MTLoRAError(
                f"a published block selector for {self.out.in_features // self.hidden.out_features} tokens cannot read "
                f"{x.shape[1] * x.shape[2]}: it fits the input side that it was made for"
            )
        logits: Tensor = self.out(units)
        return logits


class PublishedPolicy(nn.Module):
    """Block and token selectors of the four stages, one set for all tasks or one for each."""

    def __init__(self, spec: AdapterSpec, policy: PolicySpec) -> None:
        super().__init__()
        self.policy = policy
        self.owners = policy.owners(spec)
        shape = spec.backbone
        self.depths = shape.depths
        sides, dims, depths = shape.stage_sides(spec.image_size), shape.stage_dims, shape.depths
        first, second = policy.hidden
        self.blocks = self.tokens = None
        if policy.blocks:
            self.blocks = self._owned(lambda s: BlockSelector(dims[s], first, sides[s] ** 2, depths[s]))
        if policy.tokens:
            self.tokens = self._owned(lambda s: TwoLayers(dims[s], second, 1, start=START_LOGIT))

    def _owned(self, make: Callable[[int], nn.Module]) -> nn.ModuleDict:
        def stages() -> nn.ModuleDict:
            return nn.ModuleDict({str(stage): make(stage) for stage in range(4)})

        if self.owners == (None,):
            return stages()
        return nn.ModuleDict({owner.value: stages() for owner in self.owners if owner is not None})

    def block_logits(self, stage: int, x: Tensor, rows: Sequence[int]) -> Tensor | None:
        """Logits of a stage's blocks: float [N, rows, D]; None: it has no gates of blocks. x: the stage's input."""
        return None if self.blocks is None else torch.stack(self._each(self.blocks, stage, x, rows), dim=1)

    def token_logits(self, stage: int, x: Tensor, rows: Sequence[int]) -> Tensor | None:
        """Logits of tokens: float [N, rows, H, W, 1]; None: it has no gates of tokens. x: the block's input."""
        return None if self.tokens is None else torch.stack(self._each(self.tokens, stage, x, rows), dim=1)

    def _each(self, selectors: nn.ModuleDict, stage: int, x: Tensor, rows: Sequence[int]) -> list[Tensor]:
        names = [self.owners[row] for row in rows]
        path = [str(stage) if name is None else f"{name.value}.{stage}" for name in names]
        with torch.autocast(x.device.type, enabled=False):
            return [selectors.get_submodule(one)(x.float()) for one in path]


class PublishedDecision:
    """Published selectors at work; see `Decision`. Afterwards it knows what was opened.

    owners:     whose selectors count
    thresholds: of blocks and of tokens: a gate is open where its logit is above; None: training, with noise and
                gradients
    """

    def __init__(
        self,
        policy: PublishedPolicy,
        owners: Owners,
        thresholds: tuple[float, float] | None,
        mlp_parts: Sequence[float],
    ) -> None:
        self._policy, self._owners, self._thresholds, self._mlp_parts = policy, owners, thresholds, mlp_parts
        self.gates: list[StageGates] = []
        self._token_shares: list[list[Tensor]] = []

    def stage(self, stage: int, x: Tensor) -> StageGates:
        """See `Decision.stage`."""
        logits = self._policy.block_logits(stage, x, self._owners.rows)
        depth, streams = self._policy.depths[stage], dict[Task, Tensor]()
        if logits is None:
            opened = x.new_ones(len(x), depth, dtype=self._dtype)
        else:
            logits = self._noisy(logits)
            opened = self._united(logits, 0)
            if self._owners.apart:
                own = self._opened(logits[:, :, -1], 0)
                streams = {task: own[:, number] for number, task in enumerate(self._owners.tasks)}
        self.gates.append(StageGates(opened, None, streams))
        self._token_shares.append([x.new_zeros(len(x)) for _ in range(depth)])
        return self.gates[-1]

    def tokens(self, stage: int, block: int, x: Tensor) -> TokenGate | None:
        """See `Decision.tokens`."""
        logits = self._policy.token_logits(stage, x, self._owners.rows)
        if logits is None:
            self._token_shares[stage][block] = x.new_ones(len(x))
            return None
        mask = self._united(self._noisy(logits), 1).to(x.dtype)
        self._token_shares[stage][block] = mask.flatten(1).mean(dim=1)
        return TokenGate(mask, self._policy.policy.residual)

    def open_shares(self) -> list[Tensor]:
        """The part of each block that was computed, in multiply-adds: of stages 0..3 float [N, D]."""
        found = []
        for gates, tokens, mlp in zip(self.gates, self._token_shares, self._mlp_parts, strict=True):
            through = torch.stack(tokens, dim=1)
            ran = gates.blocks.float() * (through > 0)  # an image without open tokens leaves the block out
            found.append(ran * (1 - mlp * (1 - through)))
        return found

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32 if self._thresholds is None else torch.bool

    def _noisy(self, logits: Tensor) -> Tensor:
        """In training with logistic noise, as published."""
        if self._thresholds is not None:
            return logits
        return logits + torch.logit(torch.rand_like(logits).clamp(1e-6, 1 - 1e-6))

    def _opened(self, logits: Tensor, kind: int) -> Tensor:
        if self._thresholds is None:
            return straight_through(logits, TEMPERATURE)
        return logits > self._thresholds[kind]

    def _united(self, logits: Tensor, kind: int) -> Tensor:
        if self._thresholds is None:
            return united(logits, 1, TEMPERATURE)
        return (logits > self._thresholds[kind]).any(dim=1)
