"""The planner of a set: from the patch embedding of an image to what is computed of it within a budget.

It gives what `PooledPolicy` and `within_budget` give, from sums over small cells of the image that every window is
made of, so that the patch embedding is read once for all stages.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.model.gates import Gates
from mtlora.model.policy.plan import Owners, shares, within_budget
from mtlora.vocabulary.compute_costs import StageGrids, multiply_adds, stage_grids
from mtlora.vocabulary.errors import SpecError
from mtlora.vocabulary.policy import PolicyKind, PolicySpec, check_compute
from mtlora.vocabulary.spec import PATCH_SIZE, AdapterSpec
from mtlora.vocabulary.tasks import Task

_SMALLEST_VARIANCE = 1e-6


class ComputePlan(NamedTuple):
    """What is computed of one image, and how much that is."""

    gates: Gates
    share: float  # multiply-adds of the encoder's blocks, of those of a plain pass for the same tasks; above 0 to 1


class _Layers(NamedTuple):
    """Linear, ReLU, Linear."""

    hidden: Tensor  # float32 [H, inputs]
    hidden_bias: Tensor
    out: Tensor  # float32 [owners, blocks, H]
    out_bias: Tensor  # float32 [owners, blocks]


class Planner:
    """Decides for images of one set; see the module. Pooled policies only: others decide while the encoder runs."""

    def __init__(self, spec: AdapterSpec, policy: PolicySpec, tensors: Mapping[str, Tensor]) -> None:
        """tensors: of the policy, named as in the adapter file, of any float type"""
        if policy.kind is not PolicyKind.POOLED:
            raise SpecError(f"only pooled policies decide beforehand, this one is {policy.kind}")
        self._owners, self._tasks = policy.owners(spec), spec.task_names
        self._windows = policy.windows
        self._depths = spec.backbone.depths
        self._grids = stage_grids(spec)
        self._costs = multiply_adds(spec)
        self._cells = _cells(self._grids, spec.image_size // PATCH_SIZE)
        own = {name: tensor.detach().to("cpu", torch.float32, copy=True) for name, tensor in tensors.items()}
        self._of_blocks = self._layers(own, "policy.blocks") if policy.blocks else None
        self._of_windows = self._layers(own, "policy.windows") if policy.windows else None

    def plan(self, patches: Tensor, tasks: Sequence[Task], compute: float) -> ComputePlan:
        """What is computed of one image.

        patches: float [H, W, C], its patch embedding, row by row
        tasks:   those wanted, of the set's
        compute: the budget, a share of what all blocks cost for these tasks
        """
        check_compute(compute)
        apart = self._owners != (None,)
        rows = [self._owners.index(task) for task in tasks] if apart else [0]
        logits = self._logits(patches.detach().to("cpu", torch.float32), rows, compute)
        owners = Owners(tuple(range(len(rows))), tuple(tasks), apart)
        gates = within_budget(logits, self._costs, owners, compute, windows=self._windows)
        return ComputePlan(gates, float(shares(gates, self._costs, tasks)))

    def _logits(self, patches: Tensor, rows: list[int], compute: float) -> list[Tensor]:
        """Of stages 0..3: float [1, rows, D, W], W = 1 without gates of windows."""
        sums = self._cells.sums(patches)
        image = _statistics(sums.sum(dim=(0, 1)), patches.shape[0] * patches.shape[1])
        context = torch.cat([image, image.new_tensor([compute])])
        logits = [context.new_zeros(1, len(rows), depth, 1) for depth in self._depths]
        if self._of_blocks is not None:
            layers = self._of_blocks
            hidden = torch.relu(torch.mv(layers.hidden, context) + layers.hidden_bias)
            each = layers.out[rows] @ hidden + layers.out_bias[rows]  # [rows, blocks]
            logits = [own[None, :, :, None] for own in each.split(self._depths, dim=1)]
        if self._of_windows is None:
            return logits
        units = self._hidden(self._of_windows, sums, context)
        return [own + self._windows_of(self._of_windows, units, stage, rows) for stage, own in enumerate(logits)]

    def _hidden(self, layers: _Layers, sums: Tensor, context: Tensor) -> dict[tuple[int, int], Tensor]:
        """Hidden units of every window, by stage and shift: float [W, H]."""
        areas = self._cells.windows(sums)
        channels = sums.shape[2]  # sums and squares
        own = torch.cat(list(areas.values())) @ layers.hidden[:, :channels].T
        alike = torch.mv(layers.hidden[:, channels:], context) + layers.hidden_bias
        counts = [len(area) for area in areas.values()]
        return dict(zip(areas, torch.relu(own + alike).split(counts), strict=True))

    def _windows_of(
        self, layers: _Layers, hidden: dict[tuple[int, int], Tensor], stage: int, rows: list[int]
    ) -> Tensor:
        """float [1, rows, D, W]."""
        first, each = sum(self._depths[:stage]), []
        for block in range(self._depths[stage]):
            out, bias = layers.out[rows, first + block], layers.out_bias[rows, first + block]
            each.append(out @ hidden[stage, self._grids[stage].shift_of(block)].T + bias[:, None])
        return torch.stack(each, dim=1)[None]

    def _layers(self, tensors: Mapping[str, Tensor], name: str) -> _Layers:
        owners, hidden = len(self._owners), tensors[f"{name}.hidden.weight"]
        return _Layers(
            hidden,
            tensors[f"{name}.hidden.bias"],
            tensors[f"{name}.out.weight"].view(owners, -1, len(hidden)),
            tensors[f"{name}.out.bias"].view(owners, -1),
        )


class _Cells(NamedTuple):
    """The smallest rectangles that no window of any stage divides, and which of them each window has."""

    segments: Tensor  # float32 [cells, patches] along a side: 1 where a patch is in a cell
    members: Tensor  # float32 [windows of all groups, cells] along a side
    groups: dict[tuple[int, int], int]  # stage and shift: windows along a side
    inside: dict[tuple[int, int], Tensor]  # patches of each window: float32 [windows, 1]

    def sums(self, patches: Tensor) -> Tensor:
        """Sums of every channel and of its squares: float [H, W, C] -> [cells, cells, 2C]."""
        height, width, channels = patches.shape
        both = torch.cat([patches, patches.square()], dim=2).view(height, width * 2 * channels)
        rows = (self.segments @ both).view(-1, width, 2 * channels)
        return torch.matmul(self.segments, rows)

    def windows(self, sums: Tensor) -> dict[tuple[int, int], Tensor]:
        """Mean and deviation of every channel over every window: float [W, 2C] by stage and shift, row-major."""
        cells, width = sums.shape[0], sums.shape[2]
        down = (self.members @ sums.reshape(cells, cells * width)).view(-1, cells, width)
        found, first = {}, 0
        for group, count in self.groups.items():
            own = slice(first, first + count)
            whole = torch.matmul(self.members[own], down[own]).view(count * count, width)
            found[group] = _statistics(whole, self.inside[group])
            first += count
        return found


def _statistics(sums: Tensor, count: Tensor | int) -> Tensor:
    """Mean and deviation from sums: float [..., 2C], the channels' and their squares'."""
    mean, square = (sums / count).chunk(2, dim=-1)
    return torch.cat([mean, ((square - mean.square()).clamp(min=0) + _SMALLEST_VARIANCE).sqrt()], dim=-1)


def _cells(grids: StageGrids, patches: int) -> _Cells:
    """patches: along a side of the image"""
    labels, groups = [], {}
    for stage, grid in enumerate(grids):
        area, padded = grid.window << stage, grid.side << stage
        for shift in (0, grid.shift) if grid.shift else (0,):
            rolled = (torch.arange(patches) - (shift << stage)) % padded
            labels.append(rolled // area)
            groups[stage, shift] = padded // area
    columns = torch.stack(labels)
    _, cell = torch.unique_consecutive(columns, dim=1, return_inverse=True)
    segments = torch.nn.functional.one_hot(cell).T.float().contiguous()
    members, inside = [], {}
    for (group, count), label in zip(groups.items(), labels, strict=True):
        member = torch.nn.functional.one_hot(label, count).T.float()
        along = member.sum(dim=1)
        inside[group] = torch.outer(along, along).view(-1, 1).clamp(min=1)
        members.append((member @ segments.T > 0).float())
    return _Cells(segments, torch.cat(members), groups, inside)
