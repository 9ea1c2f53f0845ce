"""The published losses of the six dense tasks (specification, section 7).

Each is a sum over pixels divided by a count. The counts of a larger batch may be given, so that the losses of its parts
(on several processes, or one after the other) add up to the loss of the whole.
Targets have the form of `mtlora.data.augment.Batch.targets`. Where nothing is labelled a loss is exactly 0.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.tasks import IGNORE_INDEX, TRAITS, Task

EDGE_POSITIVE_WEIGHT = 0.95
_CLASS_TASKS = (Task.SEMSEG, Task.HUMAN_PARTS)


def loss_counts(task: Task, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """What the loss of a batch is divided by; counts of parts add up to those of the whole.

    weight:  float [K], of the classes
    returns: float64 [2]: valid pixels (with class weights: their sum), and negatives (saliency only, else 0)
    """
    negatives = torch.zeros((), dtype=torch.float64, device=target.device)
    if task in _CLASS_TASKS:
        valid = target != IGNORE_INDEX
        count = valid.sum()
        if weight is not None:  # of a fixed shape, so that a GPU need not be waited for
            count = torch.where(valid, weight[torch.where(valid, target, 0)], 0.0).sum(dtype=torch.float64)
    elif task is Task.NORMALS:
        count = (target != 0).any(dim=1).sum()
    elif task is Task.DEPTH:
        count = (target > 0).sum()
    else:
        count = (target >= 0).sum()
        if task is Task.SALIENCY:
            negatives = ((target >= 0) & (target < 0.5)).sum()
    return torch.stack([count.double(), negatives.double()])


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None, counts: Tensor | None = None) -> Tensor:
    """Mean cross entropy over labelled pixels.

    logits: float [B, K, H, W]; target: int64 [B, H, W], 255 = ignore; weight: float [K], of the classes
    """
    counts = loss_counts(Task.SEMSEG, target, weight) if counts is None else counts
    total = F.cross_entropy(logits, target, weight=weight, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / _divisor(counts, logits, smallest=1.0 if weight is None else 1e-6)


def balanced_bce(logits: Tensor, target: Tensor, positive_weight: Tensor | float, count: Tensor) -> Tensor:
    """Binary cross entropy, positives weighted by `positive_weight`, negatives by 1 minus it, divided by `count`.

    logits, target: float [B, 1, H, W]; target 0..1, below 0 = ignore; 0.5 and above is positive
    """
    positive = (target >= 0.5).to(logits.dtype)
    weight = torch.where(positive > 0, positive_weight, 1 - positive_weight)
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none") * weight
    return torch.where(target >= 0, losses, 0.0).sum() / count


def saliency_loss(logits: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """Balanced BCE: positives are weighted by the batch's share of negatives, negatives by that of positives."""
    counts = loss_counts(Task.SALIENCY, target) if counts is None else counts
    count = _divisor(counts, logits)
    return balanced_bce(logits, target, counts[1].to(logits) / count, count)


def edge_loss(logits: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """BCE with the fixed weights 0.95 on edges and 0.05 beside them."""
    counts = loss_counts(Task.EDGE, target) if counts is None else counts
    return balanced_bce(logits, target, EDGE_POSITIVE_WEIGHT, _divisor(counts, logits))


def normals_loss(logits: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """L1 between normalised prediction and label, divided by the number of valid elements.

    logits, target: float [B, 3, H, W]; target has unit length, or is all zero = ignore
    """
    counts = loss_counts(Task.NORMALS, target) if counts is None else counts
    valid = (target != 0).any(dim=1, keepdim=True)
    difference = (F.normalize(logits, dim=1) - target).abs()
    return torch.where(valid, difference, 0.0).sum() / (3 * _divisor(counts, logits))


def depth_loss(logits: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """L1 over valid pixels; logits, target: float [B, 1, H, W], metres, target 0 = ignore."""
    counts = loss_counts(Task.DEPTH, target) if counts is None else counts
    return torch.where(target > 0, (logits - target).abs(), 0.0).sum() / _divisor(counts, logits)


def _divisor(counts: Tensor, like: Tensor, smallest: float = 1.0) -> Tensor:
    return counts[0].clamp(min=smallest).to(like)


_LOSSES = {
    Task.SALIENCY: saliency_loss,
    Task.EDGE: edge_loss,
    Task.NORMALS: normals_loss,
    Task.DEPTH: depth_loss,
}


def task_loss(
    task: Task, logits: Tensor, target: Tensor, weight: Tensor | None = None, counts: Tensor | None = None
) -> Tensor:
    """The loss of a task.

    weight: float [K], for the classes of semseg and human_parts only
    counts: of the whole batch, where this is a part of it (see `loss_counts`); None: of this target
    """
    if task in _CLASS_TASKS:
        return cross_entropy(logits, target, weight, counts)
    if weight is not None:
        raise TaskError(f"task {task} has no class weights, got {tuple(weight.shape)}")
    return _LOSSES[task](logits, target, counts)


def weighted_sum(losses: Mapping[Task, Tensor], weights: Mapping[Task, float] | None = None) -> Tensor:
    """Sum of losses with the published weights, or with `weights` where given."""
    if not losses:
        raise TaskError("a weighted sum needs at least one loss, got none")
    return torch.stack(
        [(weights or {}).get(task, TRAITS[task].loss_weight) * loss for task, loss in losses.items()]
    ).sum()
