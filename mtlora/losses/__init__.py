"""Losses of the dense tasks (specification, section 7) and of distillation."""

from mtlora.losses.dense import (
    balanced_bce,
    cross_entropy,
    depth_loss,
    edge_loss,
    loss_counts,
    normals_loss,
    saliency_loss,
    task_loss,
    weighted_sum,
)
from mtlora.losses.distillation import distillation_loss, feature_loss, semantic_loss

__all__ = [
    "balanced_bce",
    "cross_entropy",
    "depth_loss",
    "distillation_loss",
    "edge_loss",
    "feature_loss",
    "loss_counts",
    "normals_loss",
    "saliency_loss",
    "semantic_loss",
    "task_loss",
    "weighted_sum",
]
