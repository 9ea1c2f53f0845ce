"""A Swin block whose MLP computes open tokens only."""

from typing import Any

import torch
from torch import Tensor

from mtlora.model.swin import attention_part


def run_whole(block: Any, x: Tensor) -> Tensor:
    """The plain block: float [B, H, W, C] -> the same shape."""
    attended = attention_part(block, x)
    y: Tensor = attended + block.drop_path2(block.mlp(block.norm2(attended)))
    return y


def run_masked(block: Any, x: Tensor, mask: Tensor, *, closed_add_norm: bool, exit_per_batch: bool) -> Tensor:
    """A block in training: everything is computed, what is closed is masked away.

    x:    float [B, H, W, C]
    mask: float [B, L], the token gates, 0..1
    closed_add_norm: a closed token adds its normalised value
    exit_per_batch:  the block does nothing only if no token of any image is open; else each image without open tokens
                     leaves it as it came
    """
    if exit_per_batch and not bool(mask.any()):
        return x
    attended = attention_part(block, x)
    t = block.norm2(attended)
    m = mask.view(*x.shape[:3], 1)
    part = m * block.mlp(m * t) + (1 - m) * t if closed_add_norm else m * block.mlp(t)
    y: Tensor = attended + block.drop_path2(part)
    if exit_per_batch:
        return y
    return torch.where((mask > 0).any(dim=1).view(-1, 1, 1, 1), y, x)


def run_open(block: Any, x: Tensor, mask: Tensor, *, closed_add_norm: bool) -> Tensor:
    """A block in evaluation: only open tokens go through the MLP, and only images that have some through attention.

    x:    float [B, H, W, C]
    mask: bool [B, L], True: open
    """
    active = mask.any(dim=1)
    if not bool(active.all()):
        rows = active.nonzero().flatten()
        if not len(rows):
            return x
        return x.index_copy(0, rows, run_open(block, x[rows], mask[rows], closed_add_norm=closed_add_norm))
    attended = attention_part(block, x)
    t = block.norm2(attended).flatten(0, 2)
    chosen = mask.flatten().nonzero().flatten()
    part = t if closed_add_norm else torch.zeros_like(t)
    part = part.index_copy(0, chosen, block.mlp(t[chosen]))
    y: Tensor = attended + part.view_as(attended)
    return y
