"""The pooled policy: from statistics of the patch embedding to a logit for every block and window, before stage 0.

It reads the mean and the deviation of every channel of the patch embedding, over the whole image and over the area of
each window, and the budget that was asked for. A window of stage s covers 2^s times as many patches along its side as
it has tokens; windows of shifted blocks are read where they lie.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlora.model.policy.cells import Group, cells_of
from mtlora.vocabulary.compute_costs import StageGrid, StageGrids
from mtlora.vocabulary.policy import PolicySpec
from mtlora.vocabulary.spec import AdapterSpec

START_LOGIT = 3.0
"""Of every gate of a fresh policy: all are open, and none is so sure that its gradient is gone."""

PolicyLogits = list[Tensor]
"""Of stages 0..3: float [N, owners, D, W], W = 1 where the policy has no gates of windows."""


class TwoLayers(nn.Module):
    """Linear, ReLU, Linear. Fresh: the last layer gives `start` whatever comes in."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, start: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.out = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, start)

    def forward(self, x: Tensor) -> Tensor:
        """float [..., inputs] -> float [..., outputs]."""
        y: Tensor = self.out(F.relu(self.hidden(x)))
        return y


class PooledPolicy(nn.Module):
    """One small network for blocks and one for windows; a window's logit is the sum of its block's and its own."""

    def __init__(self, spec: AdapterSpec, policy: PolicySpec) -> None:
        super().__init__()
        self.policy = policy
        self.owners = policy.owners(spec)
        self._depths = spec.backbone.depths
        channels, outputs = spec.backbone.embed_dim, len(self.owners) * sum(self._depths)
        self.blocks = self.windows = None
        if policy.blocks:
            self.blocks = TwoLayers(2 * channels + 1, policy.hidden[0], outputs, start=START_LOGIT)
        if policy.windows:
            start = 0.0 if policy.blocks else START_LOGIT
            self.windows = TwoLayers(4 * channels + 1, policy.hidden[1], outputs, start=start)

    def forward(self, patches: Tensor, compute: float, grids: StageGrids) -> PolicyLogits:
        """Logits of every block and window.

        patches: float [N, H, W, C], the patch embedding; no gradient flows back into it
        compute: the budget asked for, above 0 to 1
        grids:   windows of the stages for this input side
        """
        patches = patches.detach().float()
        read = cells_of(grids, patches.shape[1]).statistics(patches, windows=self.windows is not None)
        context = torch.cat([read.image, read.image.new_full((len(patches), 1), compute)], dim=1)
        logits = [context.new_zeros(len(context), len(self.owners), depth, 1) for depth in self._depths]
        if self.blocks is not None:
            each = self.blocks(context).view(len(context), len(self.owners), -1, 1)
            logits = list(each.split(self._depths, dim=2))
        if self.windows is None:
            return logits
        hidden = {group: _hidden(self.windows, areas, context) for group, areas in read.windows.items()}
        return [logits[stage] + self._of_windows(self.windows, hidden, stage, grid) for stage, grid in enumerate(grids)]

    def _of_windows(self, network: TwoLayers, hidden: dict[Group, Tensor], stage: int, grid: StageGrid) -> Tensor:
        """Logits of a stage's windows, block by block in the grid of each: float [N, owners, D, W]."""
        first, depth = sum(self._depths[:stage]), self._depths[stage]
        weight = network.out.weight.view(len(self.owners), -1, network.out.in_features)[:, first : first + depth]
        bias = network.out.bias.view(len(self.owners), -1)[:, first : first + depth]
        each = [
            torch.einsum("nwh,th->ntw", hidden[stage, grid.shift_of(block)], weight[:, block]) + bias[:, block, None]
            for block in range(depth)
        ]
        return torch.stack(each, dim=2)


def _hidden(network: TwoLayers, areas: Tensor, context: Tensor) -> Tensor:
    """Hidden units of windows, whose areas differ and whose image does not: float [N, W, H].

    areas: float [N, W, 2C]; context: float [N, 2C + 1]
    """
    weight, split = network.hidden.weight, areas.shape[2]
    alike = F.linear(context, weight[:, split:], network.hidden.bias)
    return F.relu(F.linear(areas, weight[:, :split]) + alike[:, None])
