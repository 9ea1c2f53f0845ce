import pytest
import torch

from mtlora.losses.soft import soft_loss
from mtlora.vocabulary.tasks import Task

EVERYWHERE = torch.ones(2, 1, 4, 4, dtype=torch.bool)
CHANNELS = {Task.SEMSEG: 5, Task.SALIENCY: 1, Task.NORMALS: 3, Task.DEPTH: 1}


@pytest.mark.parametrize("task", list(CHANNELS))
def test_the_teachers_own_logits_cost_nothing_and_others_something(task: Task) -> None:
    teacher = torch.randn(2, CHANNELS[task], 4, 4)
    assert soft_loss(task, teacher, teacher, EVERYWHERE, 2.0).item() == pytest.approx(0.0, abs=1e-6)
    other = torch.randn_like(teacher).requires_grad_()
    loss = soft_loss(task, other, teacher, EVERYWHERE, 2.0)
    loss.backward()
    assert other.grad is not None
    assert loss.item() > 0.01 and other.grad.abs().sum() > 0


def test_two_classes_by_hand() -> None:
    """Teacher (3/4, 1/4), student (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2)."""
    teacher = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)
    loss = soft_loss(Task.SEMSEG, torch.zeros(1, 2, 1, 1), teacher, torch.ones(1, 1, 1, 1, dtype=torch.bool), 1.0)
    assert loss.item() == pytest.approx(0.75 * 0.405465 - 0.25 * 0.693147, rel=1e-4)


def test_outside_of_the_photo_nothing_is_learned() -> None:
    teacher = torch.randn(1, 1, 2, 2)
    inside = torch.tensor([[[[True, False], [False, False]]]])
    loss = soft_loss(Task.DEPTH, teacher + 4.0, teacher, inside, 1.0)
    assert loss.item() == pytest.approx(1.0)
    assert soft_loss(Task.DEPTH, teacher + 4.0, teacher, torch.zeros_like(inside), 1.0).item() == 0.0
