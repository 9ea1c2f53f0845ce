"""What selectors of gates read: means and standard deviations of the patch embedding, over image and windows."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.inference.forward.windows import StageShape
from mtlora.ops import ops


class Pooled(NamedTuple):
    """Means, then population standard deviations, of C channels each."""

    image: Tensor  # float [n, 2C]
    windows: tuple[Tensor, ...]  # float [n, W, 2C] of the stages 0..3, by rows; windows as they lie without shift


class _Moments(NamedTuple):
    """Of the patches in each cell of a square grid."""

    patches: int  # of a cell
    means: Tensor  # float [n, h, h, C]
    squares: Tensor  # float [n, h, h, C], sums of squared distances from the mean


def pooled(x: Tensor, shapes: Sequence[StageShape]) -> Pooled:
    """Statistics of each image, and of what each window of each stage covers of it.

    x:      float [n, L, C], the patch embedding, window by window in the plain order of stage 0
    shapes: of the stages 0..3
    """
    side, window, _ = shapes[0]
    items, _, width = x.shape
    cells = side // window
    found = ops.window_moments(x.reshape(items * cells**2, window**2, width))
    means, squares = (moment.view(items, cells, cells, width) for moment in found)
    finest = _Moments(window**2, means, squares)
    windows = [_features(_joined(finest, cells // (shape.side // shape.window))).flatten(1, 2) for shape in shapes]
    return Pooled(_features(_joined(finest, cells)).flatten(1), tuple(windows))


def _joined(moments: _Moments, by: int) -> _Moments:
    """Of squares of by x by cells."""
    if by == 1:
        return moments
    items, cells, _, width = moments.means.shape
    shape = items, cells // by, by, cells // by, by, width
    each, squares = moments.means.view(shape), moments.squares.view(shape)
    means = each.mean(dim=(2, 4))
    apart = (each - means[:, :, None, :, None]).square_().sum(dim=(2, 4))
    return _Moments(moments.patches * by**2, means, squares.sum(dim=(2, 4)).add_(apart, alpha=moments.patches))


def _features(moments: _Moments) -> Tensor:
    return torch.cat([moments.means, (moments.squares / moments.patches).sqrt_()], dim=-1)
