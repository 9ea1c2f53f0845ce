"""The losses of `pretrain` against a teacher: its features at three scales, and its classifier's scores."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def feature_loss(predicted: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Mean square error over positions that lie inside the photo, plus 1 minus the cosine there.

    predicted, target: float [B, C, h, w], target standardised per channel; inside: bool [B, 1, h, w]
    """
    count = inside.sum().clamp(min=1)
    square = torch.where(inside, (predicted - target).square(), 0.0).sum() / (count * target.shape[1])
    cosine = F.cosine_similarity(predicted, target, dim=1, eps=1e-6)[:, None]
    return square + torch.where(inside, 1 - cosine, 0.0).sum() / count


def semantic_loss(head: nn.Module, predicted: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Kullback-Leibler divergence between the teacher's classes at every position, from its and from our features.

    head: frozen classifier, float [B, C, h, w] -> [B, K, h, w]; predicted, target: float [B, C, h, w], not standardised
    """
    with torch.no_grad():
        wanted = head(target).log_softmax(dim=1)
    found = head(predicted).log_softmax(dim=1)
    divergence = F.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=1, keepdim=True)
    return torch.where(inside, divergence, 0.0).sum() / inside.sum().clamp(min=1)


def distillation_loss(predicted: Sequence[Tensor], target: Sequence[Tensor], inside: Sequence[Tensor]) -> Tensor:
    """Sum of `feature_loss` over the scales."""
    parts = [feature_loss(p, t, i) for p, t, i in zip(predicted, target, inside, strict=True)]
    return torch.stack(parts).sum()
