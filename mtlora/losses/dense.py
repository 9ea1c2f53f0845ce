"""The published losses of the six dense tasks (specification, section 7).

Targets have the form of `mtlora.data.augment.Batch.targets`. Where nothing is labelled a loss is exactly 0.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.errors import TaskError
from mtlora.tasks import IGNORE_INDEX, TRAITS, Task

EDGE_POSITIVE_WEIGHT = 0.95


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross entropy over labelled pixels.

    logits: float [B, K, H, W]; target: int64 [B, H, W], 255 = ignore; weight: float [K], of the classes
    """
    total = F.cross_entropy(logits, target, weight=weight, ignore_index=IGNORE_INDEX, reduction="sum")
    labelled = target != IGNORE_INDEX
    count = labelled.sum() if weight is None else weight[target[labelled]].sum()
    return total / count.clamp(min=1)


def balanced_bce(logits: Tensor, target: Tensor, positive_weight: Tensor | float) -> Tensor:
    """Binary cross entropy, positives weighted by `positive_weight`, negatives by 1 minus it, divided by the pixels.

    logits, target: float [B, 1, H, W]; target 0..1, below 0 = ignore; 0.5 and above is positive
    """
    labelled = target >= 0
    positive = (target >= 0.5).to(logits.dtype)
    weight = torch.where(positive > 0, positive_weight, 1 - positive_weight)
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none") * weight
    return torch.where(labelled, losses, 0.0).sum() / labelled.sum().clamp(min=1)


def saliency_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Balanced BCE: positives are weighted by the batch's share of negatives, negatives by that of positives."""
    labelled = target >= 0
    negatives = (labelled & (target < 0.5)).sum() / labelled.sum().clamp(min=1)
    return balanced_bce(logits, target, negatives)


def edge_loss(logits: Tensor, target: Tensor) -> Tensor:
    """BCE with the fixed weights 0.95 on edges and 0.05 beside them."""
    return balanced_bce(logits, target, EDGE_POSITIVE_WEIGHT)


def normals_loss(logits: Tensor, target: Tensor) -> Tensor:
    """L1 between normalised prediction and label, divided by the number of valid elements.

    logits, target: float [B, 3, H, W]; target has unit length, or is all zero = ignore
    """
    valid = (target != 0).any(dim=1, keepdim=True)
    difference = (F.normalize(logits, dim=1) - target).abs()
    return torch.where(valid, difference, 0.0).sum() / (3 * valid.sum()).clamp(min=1)


def depth_loss(logits: Tensor, target: Tensor) -> Tensor:
    """L1 over valid pixels; logits, target: float [B, 1, H, W], metres, target 0 = ignore."""
    valid = target > 0
    return torch.where(valid, (logits - target).abs(), 0.0).sum() / valid.sum().clamp(min=1)


_LOSSES = {
    Task.SALIENCY: saliency_loss,
    Task.EDGE: edge_loss,
    Task.NORMALS: normals_loss,
    Task.DEPTH: depth_loss,
}


def task_loss(task: Task, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The loss of a task; `weight`: float [K], for the classes of semseg and human_parts only."""
    if task in (Task.SEMSEG, Task.HUMAN_PARTS):
        return cross_entropy(logits, target, weight)
    if weight is not None:
        raise TaskError(f"task {task} has no class weights, got {tuple(weight.shape)}")
    return _LOSSES[task](logits, target)


def weighted_sum(losses: Mapping[Task, Tensor], weights: Mapping[Task, float] | None = None) -> Tensor:
    """Sum of losses with the published weights, or with `weights` where given."""
    if not losses:
        raise TaskError("a weighted sum needs at least one loss, got none")
    return torch.stack(
        [(weights or {}).get(task, TRAITS[task].loss_weight) * loss for task, loss in losses.items()]
    ).sum()
