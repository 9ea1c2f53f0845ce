import pytest
import torch
from torch import nn

from mtlora.losses import distillation_loss, feature_loss, semantic_loss

EVERYWHERE = torch.ones(2, 1, 3, 3, dtype=torch.bool)


def test_perfect_features_cost_nothing() -> None:
    target = torch.randn(2, 5, 3, 3)
    assert feature_loss(target, target, EVERYWHERE).item() == pytest.approx(0.0, abs=1e-6)
    assert distillation_loss([target] * 2, [target] * 2, [EVERYWHERE] * 2).item() == pytest.approx(0.0, abs=1e-6)


def test_opposite_features_by_hand() -> None:
    """Squared difference of 1 and -1 is 4; the cosine is -1, so 1 minus it is 2."""
    ones = torch.ones(2, 5, 3, 3)
    assert feature_loss(-ones, ones, EVERYWHERE).item() == pytest.approx(6.0)


def test_positions_outside_the_photo_do_not_count() -> None:
    target = torch.randn(2, 5, 3, 3)
    wrong = target.clone()
    wrong[..., 0] += 100
    inside = EVERYWHERE.clone()
    inside[..., 0] = False
    assert feature_loss(wrong, target, inside).item() == pytest.approx(0.0, abs=1e-6)
    assert feature_loss(wrong, target, torch.zeros_like(inside)).item() == 0.0


def test_classes_agree_when_features_do() -> None:
    head = nn.Conv2d(5, 7, 1).requires_grad_(False)
    target = torch.randn(2, 5, 3, 3)
    predicted = target.clone().requires_grad_()
    assert semantic_loss(head, predicted, target, EVERYWHERE).item() == pytest.approx(0.0, abs=1e-6)
    loss = semantic_loss(head, predicted * 0.5, target, EVERYWHERE)
    loss.backward()
    assert loss.item() > 0
    assert predicted.grad is not None
    assert predicted.grad.abs().sum() > 0
