import math

import pytest
import torch

from mtlora.losses import (
    cross_entropy,
    depth_loss,
    edge_loss,
    loss_counts,
    normals_loss,
    saliency_loss,
    task_loss,
    weighted_sum,
)
from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.tasks import Task

LN2 = math.log(2)


def test_cross_entropy_skips_ignored_pixels() -> None:
    logits = torch.zeros(1, 4, 1, 3)
    target = torch.tensor([[[0, 3, 255]]])
    assert cross_entropy(logits, target).item() == pytest.approx(math.log(4))
    assert cross_entropy(logits, torch.full((1, 1, 3), 255)).item() == 0.0


def test_cross_entropy_with_class_weights_is_a_weighted_mean() -> None:
    logits = torch.tensor([[0.0, 0.0], [LN2, 0.0]]).view(1, 2, 1, 2)  # p(0) = 1/3 and 1/2
    target = torch.tensor([[[0, 1]]])
    weight = torch.tensor([3.0, 1.0])
    expected = (3 * math.log(3) + 1 * LN2) / 4
    assert cross_entropy(logits, target, weight).item() == pytest.approx(expected, rel=1e-6)


def test_saliency_is_balanced_by_the_batch() -> None:
    """One positive in four pixels: it weighs 3/4, each negative 1/4; all at p = 1/2, divided by four pixels."""
    target = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
    loss = saliency_loss(torch.zeros(1, 1, 2, 2), target)
    assert loss.item() == pytest.approx(LN2 * (0.75 + 3 * 0.25) / 4)


def test_saliency_ignores_what_lies_outside() -> None:
    target = torch.tensor([1.0, 0.0, -1.0, -1.0]).view(1, 1, 2, 2)
    assert saliency_loss(torch.zeros(1, 1, 2, 2), target).item() == pytest.approx(LN2 * 0.5)
    assert saliency_loss(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), -1.0)).item() == 0.0


def test_edges_weigh_19_times_their_surroundings() -> None:
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert edge_loss(torch.zeros(1, 1, 1, 2), target).item() == pytest.approx(LN2 * (0.95 + 0.05) / 2)


def test_normals_are_compared_at_unit_length() -> None:
    target = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).repeat(1, 1, 1, 2)
    target[..., 1] = 0  # ignored
    assert normals_loss(target * 7, target).item() == pytest.approx(0.0, abs=1e-6)
    sideways = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 1, 2)
    assert normals_loss(sideways, target).item() == pytest.approx(2 / 3)


def test_depth_is_a_mean_over_valid_pixels() -> None:
    target = torch.tensor([2.0, 0.0]).view(1, 1, 1, 2)
    assert depth_loss(torch.full((1, 1, 1, 2), 5.0), target).item() == pytest.approx(3.0)


@pytest.mark.parametrize("task", list(Task))
def test_no_label_gives_zero_and_a_finite_gradient(task: Task) -> None:
    logits = torch.zeros(1, 3 if task is Task.NORMALS else 1, 4, 4, requires_grad=True)
    nothing = {
        Task.SEMSEG: torch.full((1, 4, 4), 255),
        Task.HUMAN_PARTS: torch.full((1, 4, 4), 255),
        Task.NORMALS: torch.zeros(1, 3, 4, 4),
        Task.DEPTH: torch.zeros(1, 1, 4, 4),
    }.get(task, torch.full((1, 1, 4, 4), -1.0))
    loss = task_loss(task, logits, nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_published_weights_unless_told_otherwise() -> None:
    losses = {Task.SEMSEG: torch.tensor(1.0), Task.NORMALS: torch.tensor(2.0)}
    assert weighted_sum(losses).item() == 1 * 1.0 + 10 * 2.0
    assert weighted_sum(losses, {Task.NORMALS: 0.5}).item() == 2.0
    with pytest.raises(TaskError, match="at least one"):
        weighted_sum({})


def test_only_class_maps_have_class_weights() -> None:
    with pytest.raises(TaskError, match=r"saliency has no class weights, got \(2,\)"):
        task_loss(Task.SALIENCY, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.ones(2))


def batch_of(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and a partly ignored target of four photos, very unevenly labelled."""
    if task in (Task.SEMSEG, Task.HUMAN_PARTS):
        target = torch.randint(0, 3, (4, 5, 6))
        target[0], target[1, 2:] = 255, 255
        return torch.randn(4, 3, 5, 6), target
    channels = 3 if task is Task.NORMALS else 1
    target = torch.rand(4, channels, 5, 6) + 0.01
    if task is Task.NORMALS:
        target = torch.nn.functional.normalize(target, dim=1)
    target[0], target[1, :, 2:] = (-1, -1) if task in (Task.SALIENCY, Task.EDGE) else (0, 0)
    return torch.randn(4, channels, 5, 6), target


@pytest.mark.parametrize("task", list(Task))
def test_losses_of_parts_add_up_to_the_whole(task: Task) -> None:
    """With the counts of the whole batch, whichever photos lie in which part."""
    logits, target = batch_of(task)
    weight = torch.tensor([3.0, 1.0, 0.2]) if task is Task.SEMSEG else None
    whole = task_loss(task, logits, target, weight)
    counts = loss_counts(task, target[:1], weight) + loss_counts(task, target[1:], weight)
    parts = [task_loss(task, logits[s], target[s], weight, counts) for s in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), whole)
