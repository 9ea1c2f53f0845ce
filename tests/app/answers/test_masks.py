"""Masks of maps: what is in them, and that their scores are the probabilities they claim to be."""

import numpy as np
import pytest
import torch

from app.answers.masks import find_masks
from mtlora.maps.postprocessing import PhotoMap, decode_coarse
from mtlora.vocabulary.tasks import HUMAN_PARTS_CLASSES, Task
from testing.factories import adapter_spec

SPEC = adapter_spec(tasks=(Task.HUMAN_PARTS, Task.SALIENCY, Task.EDGE))
SIDE = SPEC.image_size // 8


def map_of(task: Task, coarse: torch.Tensor, height: int = 45, width: int = 70) -> PhotoMap:
    return PhotoMap(task, decode_coarse(task, coarse, SPEC.image_size), height, width)


def test_masks_of_a_class_map_are_its_classes() -> None:
    coarse = torch.randn(7, SIDE, SIDE) * 3
    source = map_of(Task.HUMAN_PARTS, coarse)
    labels, masks = find_masks(source, coarse, SPEC.task(Task.HUMAN_PARTS))
    np.testing.assert_array_equal(labels, source.whole())
    ids, counts = np.unique(labels, return_counts=True)
    assert [(m.id, m.pixels) for m in masks] == list(zip(ids.tolist(), counts.tolist(), strict=True))
    assert [m.name for m in masks] == [HUMAN_PARTS_CLASSES[i] for i in ids]
    assert all(0 < m.score <= 1 for m in masks)


def test_scores_of_classes_are_mean_probabilities() -> None:
    """Left half class 2, right half class 5, the same logits everywhere within a half."""
    coarse = torch.zeros(7, SIDE, SIDE)
    coarse[2, :, : SIDE // 2], coarse[5, :, SIDE // 2 :] = 2.0, 4.0
    _, masks = find_masks(map_of(Task.HUMAN_PARTS, coarse), coarse, SPEC.task(Task.HUMAN_PARTS))
    expected = {2: np.exp(2) / (np.exp(2) + 6), 5: np.exp(4) / (np.exp(4) + 6)}
    assert {m.id for m in masks} == expected.keys()
    for mask in masks:
        assert mask.score == pytest.approx(expected[mask.id], abs=0.03)  # the seam between the halves is mixed


@pytest.mark.parametrize(("task", "name"), [(Task.SALIENCY, "salient"), (Task.EDGE, "edge")])
def test_a_probability_map_is_one_mask(task: Task, name: str) -> None:
    coarse = torch.randn(1, SIDE, SIDE) * 3
    source = map_of(task, coarse, 900, 700)  # several bands
    labels, (mask,) = find_masks(source, coarse, SPEC.task(task))
    values = source.whole()
    np.testing.assert_array_equal(labels, values >= 0.5)
    assert (mask.id, mask.name, mask.pixels) == (1, name, int(np.count_nonzero(values >= 0.5)))
    assert mask.score == pytest.approx(values[values >= 0.5].mean(), abs=1e-5)


def test_nothing_likely_is_an_empty_mask() -> None:
    coarse = torch.full((1, SIDE, SIDE), -5.0)
    labels, (mask,) = find_masks(map_of(Task.SALIENCY, coarse), coarse, SPEC.task(Task.SALIENCY))
    assert (labels.max(), mask.pixels, mask.score) == (0, 0, 0.0)
