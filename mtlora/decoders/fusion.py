"""Bringing feature maps of several scales to one size."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of float [B, C, h, w] to [B, C, *size]; pixel centres, not corners, are aligned."""
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def to_finest(maps: Sequence[Tensor]) -> list[Tensor]:
    """All maps at the side of the first one."""
    height, width = maps[0].shape[-2:]
    return [upsample(x, (height, width)) for x in maps]
