"""The fusion of feature maps of several scales at one size."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

_STRIDES = (8, 16, 32, 32)  # of the four scales


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of float [B, C, h, w] to [B, C, *size]; pixel centres, not corners, are aligned."""
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def inside_input(x: Tensor, level: int, input_side: int) -> Tensor:
    """A scale's map, float [B, C, s, s], cut to the input's extent where padded patch merging reached over its border.

    Only training at sides that are no multiple of 32 needs it: 112 px have 3.5 tokens at 1/32, so a map of 4.
    """
    stride = _STRIDES[level]
    if x.shape[-1] * stride == input_side:
        return x
    finer = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    side = input_side * 2 // stride
    return finer[..., :side, :side]


def to_finest(maps: Sequence[Tensor]) -> list[Tensor]:
    """All maps at the side of the first one."""
    height, width = maps[0].shape[-2:]
    return [upsample(x, (height, width)) for x in maps]
