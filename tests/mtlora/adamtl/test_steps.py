"""Training steps: what is trained, what is refused, and that they learn."""

import pytest
import torch
from torch import Tensor

from mtlora.adamtl.losses import published_task_loss, step_losses
from mtlora.adamtl.model import AdaModel, build_ada_model
from mtlora.adamtl.noise import NoNoise
from mtlora.adamtl.spec import AdaSpec
from mtlora.adamtl.steps import (
    alternating_step,
    joint_step,
    parameter_groups,
    pretraining_spec,
    pretraining_step,
    task_of_epoch,
)
from mtlora.vocabulary.errors import TaskError, TrainingError
from mtlora.vocabulary.tasks import Task
from testing.ada_models import SPEC, random_ada_tensors, random_images

TARGETS = {
    Task.SEMSEG: torch.randint(0, 3, (2, 1, 64, 64), generator=torch.Generator().manual_seed(1)).float(),
    Task.SALIENCY: torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(2)),
}


def model_and_optimiser(spec: AdaSpec) -> tuple[AdaModel, torch.optim.Optimizer]:
    model = build_ada_model(spec, random_ada_tensors(spec))
    return model, torch.optim.AdamW(parameter_groups(model), lr=1e-2)


def values(model: AdaModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def moved(before: dict[str, Tensor], model: AdaModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def test_joint_steps_learn() -> None:
    torch.manual_seed(0)
    model, optimiser = model_and_optimiser(SPEC)
    x = random_images(SPEC, 2)
    totals = [joint_step(model, optimiser, x, TARGETS, noise=NoNoise()).losses.total.item() for _ in range(12)]
    assert totals[-1] < 0.95 * totals[0]


def test_pretraining_opens_gates_and_moves_selectors_only() -> None:
    torch.manual_seed(0)
    model, optimiser = model_and_optimiser(pretraining_spec(SPEC))
    before, x = values(model), random_images(SPEC, 2)
    losses = [pretraining_step(model, optimiser, x).loss.item() for _ in range(40)]
    assert losses[-1] < 0.6 * losses[0]
    assert moved(before, model) == {name for name in before if name.startswith("policy.")}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_epoch_of_one_task() -> None:
    """Other tasks' decoders and selectors stay, though AdamW would move them for their weight decay alone."""
    model, optimiser = model_and_optimiser(SPEC)
    before = values(model)
    alternating_step(model, optimiser, random_images(SPEC, 2), TARGETS, Task.SALIENCY)
    changed = moved(before, model)
    assert not any("semseg" in name for name in changed)
    assert any(name.startswith("decoders.saliency.") for name in changed)
    assert any(name.startswith("policy.blocks.saliency.") for name in changed)
    assert [task_of_epoch(model, epoch) for epoch in range(3)] == [Task.SEMSEG, Task.SALIENCY, Task.SEMSEG]


def test_a_model_without_gates_has_no_efficiency_loss() -> None:
    spec = SPEC.switched(adaptive=False, ada_blocks=False, ada_tokens=False)
    model, optimiser = model_and_optimiser(spec)
    losses = joint_step(model, optimiser, random_images(spec, 2), TARGETS).losses
    assert losses.efficiency.item() == 0
    assert losses.total.item() == losses.weighted.item() > 0
    with pytest.raises(TrainingError, match="without gates"):
        pretraining_step(model, optimiser, random_images(spec, 2))


def test_losses_by_hand() -> None:
    """255 is no label, but counts as salient."""
    logits = torch.zeros(1, 1, 1, 4)
    labels = torch.tensor([[[[0.0, 1.0, 255.0, 0.0]]]])
    log2 = 0.6931472
    assert published_task_loss(Task.SALIENCY, logits, labels).item() == pytest.approx((2 + 2) * 0.5 * log2 / 4)
    assert published_task_loss(Task.DEPTH, logits, labels).item() == pytest.approx(1 / 3)
    vector = torch.tensor([3.0, 4.0, 0.0]).view(1, 3, 1, 1)
    wanted = torch.tensor([0.6, 0.0, 255.0]).view(1, 3, 1, 1)
    assert published_task_loss(Task.NORMALS, vector, wanted).item() == pytest.approx(0.8 / 2)
    two = torch.zeros(1, 2, 1, 4)
    assert published_task_loss(Task.SEMSEG, two, labels).item() == pytest.approx(log2)
    edges = published_task_loss(Task.EDGE, logits, labels).item()
    assert edges == pytest.approx((2 * 0.95 + 2 * 0.05) * log2 / 4, rel=1e-5)


def test_what_is_refused() -> None:
    model, optimiser = model_and_optimiser(SPEC)
    x = random_images(SPEC, 2)
    with pytest.raises(TrainingError, match="targets are needed for saliency"):
        joint_step(model, optimiser, x, {Task.SEMSEG: TARGETS[Task.SEMSEG]})
    with pytest.raises(TrainingError, match=r"target \[2, 1, 32, 32\] do not fit"):
        joint_step(model, optimiser, x, TARGETS | {Task.SALIENCY: torch.zeros(2, 1, 32, 32)})
    with pytest.raises(TrainingError, match="the loss is nan"):
        joint_step(model, optimiser, torch.full_like(x, torch.nan), TARGETS, noise=NoNoise())
    with pytest.raises(TaskError, match="no task 'depth'"):
        alternating_step(model, optimiser, x, TARGETS, Task.DEPTH)
    with pytest.raises(TrainingError, match="at least one task"):
        step_losses(SPEC, {}, TARGETS, [])
