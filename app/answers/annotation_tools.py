"""Masks as annotation tools import them: brush labels of Label Studio, mask shapes of CVAT. No background."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.answers.form import Pieces, to_json
from app.answers.masks import Mask, find_masks
from app.answers.subject import Subject
from mtlora.annotations.cvat import cvat_shape
from mtlora.annotations.label_studio import brush_result, prediction

BACKGROUND = "background"


def to_label_studio(subject: Subject) -> Pieces:
    """One element of a task's `predictions`: a result for each mask, with brush run lengths."""
    labels, masks = _masks(subject)
    plan = subject.plan
    results = [
        brush_result(labels == mask.id, mask.name, f"mask-{mask.id}", mask.score, plan.tags)
        for mask in masks
        if not plan.labels or mask.name in plan.labels
    ]
    return [to_json(prediction(results, f"mtlora-{subject.spec.task.value}"))]


def to_cvat(subject: Subject) -> Pieces:
    """The annotations of one frame: a shape of type `mask` for each, its runs within its box and the box's corners."""
    labels, masks = _masks(subject)
    shapes = [cvat_shape(labels == mask.id, mask.name, mask.score) for mask in masks]
    return [to_json({"version": 0, "tags": [], "tracks": [], "shapes": shapes})]


def _masks(subject: Subject) -> tuple[NDArray[np.uint8], list[Mask]]:
    labels, masks = find_masks(subject.source, subject.coarse, subject.spec)
    return labels, list(_shown(masks))


def _shown(masks: list[Mask]) -> Iterator[Mask]:
    return (mask for mask in masks if mask.name != BACKGROUND and mask.pixels)
