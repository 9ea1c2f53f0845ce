"""Statistics of the patch embedding over an image and over the windows of all its stages, read once for all of them.

The image is cut into the rectangles that no window of any stage, shifted or not, divides. Sums over these cells make
the sums over every window.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.ops.cell_sums import cell_sums
from mtlora.vocabulary.compute_costs import StageGrids

_SMALLEST_VARIANCE = 1e-6
Group = tuple[int, int]
"""Windows of a stage with a shift: (stage, tokens)."""


class Statistics(NamedTuple):
    """Means, then deviations, of C channels each."""

    image: Tensor  # float [N, 2C]
    windows: dict[Group, Tensor]  # float [N, W, 2C], row-major in the grid of a block with this shift


class Cells(NamedTuple):
    """Which patches a cell has, and which cells a window, along a side: both directions are alike."""

    starts: Tensor  # int32 [cells + 1]: the first patch of each, and how many patches there are
    members: Tensor  # float32 [windows of all groups, cells]
    counts: dict[Group, int]  # windows along a side
    inside: dict[Group, Tensor]  # float32 [W, 1], patches of each window, at least 1

    def statistics(self, patches: Tensor, *, windows: bool) -> Statistics:
        """Of float32 [N, H, W, C], the patch embedding. Patches that merging pads do not count."""
        sums = cell_sums(patches, self.starts).flatten(3)  # [N, cells, cells, 2C]
        image = _mean_and_deviation(sums.sum(dim=(1, 2)), patches.shape[1] * patches.shape[2])
        return Statistics(image, self._windows(sums) if windows else {})

    def _windows(self, sums: Tensor) -> dict[Group, Tensor]:
        items, cells, _, width = sums.shape
        members = self.members.to(sums.device)
        down = (members @ sums.view(items, cells, -1)).view(items, -1, cells, width)
        found, first = {}, 0
        for group, count in self.counts.items():
            own = slice(first, first + count)
            whole = (members[own] @ down[:, own]).view(items, count * count, width)
            found[group] = _mean_and_deviation(whole, self.inside[group].to(sums.device))
            first += count
        return found


@lru_cache(maxsize=64)
def cells_of(grids: StageGrids, patches: int) -> Cells:
    """For an image of so many patches along a side."""
    labels, counts = {}, {}
    for stage, grid in enumerate(grids):
        area, padded = grid.window << stage, grid.side << stage
        for shift in (0, grid.shift) if grid.shift else (0,):
            labels[stage, shift] = (torch.arange(patches) - (shift << stage)) % padded // area
            counts[stage, shift] = padded // area
    _, cell, sizes = torch.unique_consecutive(
        torch.stack([*labels.values()]), dim=1, return_inverse=True, return_counts=True
    )
    in_cell = F.one_hot(cell).T.float()
    starts = F.pad(sizes.cumsum(0), (1, 0)).int()
    in_window = {group: F.one_hot(label, counts[group]).T.float() for group, label in labels.items()}
    members = torch.cat([(own @ in_cell.T > 0).float() for own in in_window.values()])
    along = {group: own.sum(dim=1) for group, own in in_window.items()}
    inside = {group: torch.outer(own, own).view(-1, 1).clamp(min=1) for group, own in along.items()}
    return Cells(starts, members, counts, inside)


def _mean_and_deviation(sums: Tensor, count: Tensor | int) -> Tensor:
    """From sums of values and of their squares: float [..., 2C]."""
    mean, square = (sums / count).chunk(2, dim=-1)
    return torch.cat([mean, ((square - mean.square()).clamp(min=0) + _SMALLEST_VARIANCE).sqrt()], dim=-1)
