"""Sums over the cells of an image; as in `ops`, native code where that is built and fits, plain torch otherwise."""

from itertools import pairwise

import torch
from torch import Tensor

from mtlora.ops.operands import native_for, want


def cell_sums(patches: Tensor, starts: Tensor) -> Tensor:
    """Sums of values and of their squares over the rectangles that the same cuts in both directions leave.

    patches: float [N, P, P, C]
    starts:  int32 [K + 1] on the CPU, ascending from 0 to P: cell i covers patches starts[i] to starts[i + 1] - 1
    returns: float [N, K, K, 2, C]; no gradients
    """
    want(patches.ndim == 4 and patches.shape[1] == patches.shape[2], "patches", "[N, P, P, C]", patches)
    items, side, _, channels = patches.shape
    cuts = starts.tolist()
    whole = len(cuts) > 1 and cuts[0] == 0 and cuts[-1] == side
    ascending = starts.dtype == torch.int32 and all(a <= b for a, b in pairwise(cuts))
    want(starts.ndim == 1 and whole and ascending, "starts", f"int32 [K + 1], ascending from 0 to {side}", starts)
    cells, patches = len(cuts) - 1, patches.detach()
    native = native_for(patches)
    if native is None:
        return _with_torch(patches, starts)
    patches, starts = patches.contiguous(), starts.contiguous()
    sums = patches.new_empty(items, cells, cells, 2, channels)
    native.cell_sums(
        patches.data_ptr(), starts.data_ptr(), sums.data_ptr(), items, side, cells, channels, torch.get_num_threads()
    )
    return sums


def _with_torch(patches: Tensor, starts: Tensor) -> Tensor:
    items, side, _, channels = patches.shape
    along = torch.arange(side)
    inside = ((along >= starts[:-1, None]) & (along < starts[1:, None])).to(patches)  # [K, P]
    both = torch.stack([patches, patches.square()], dim=3)
    rows = (inside @ both.view(items, side, -1)).view(items, -1, side, 2 * channels)
    return (inside @ rows).view(items, len(inside), len(inside), 2, channels)
