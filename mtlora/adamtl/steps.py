"""Training steps of AdaMTL: joint, of one task in turn (alternating), and of the selectors alone (stage 2).

A step computes losses and gradients, clips, and moves the optimiser. Schedules, data and checkpoints are the caller's.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtlora.adamtl.losses import StepLosses, pretraining_loss, step_losses
from mtlora.adamtl.model import AdaModel
from mtlora.adamtl.noise import Noise
from mtlora.adamtl.spec import AdaSpec
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import Task

CLIP_NORM = 5.0
"""Published bound of the gradient's norm."""

WEIGHT_DECAY = 0.05
_TABLE = "relative_position_bias_table"


class Step(NamedTuple):
    """What a step did: its losses, and the norm of the gradient before it was clipped."""

    losses: StepLosses
    gradient_norm: float


class PretrainingStep(NamedTuple):
    """What a step of stage 2 did: its loss, and the norm of the gradient before it was clipped."""

    loss: Tensor
    gradient_norm: float


def joint_step(
    model: AdaModel,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    targets: Mapping[Task, Tensor],
    *,
    noise: Noise | None = None,
) -> Step:
    """One step of stage 3, or of stage 1 where there are no gates: everything is trained, all tasks decide.

    x:       float [B, 3, S, S], normalised
    targets: by task, as `published_task_loss` takes them
    noise:   of the gates; None: drawn
    """
    losses = _losses(model, x, targets, noise, None)
    return Step(losses, _move(model, optimiser, losses.total))


def alternating_step(
    model: AdaModel,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    targets: Mapping[Task, Tensor],
    task: Task,
    *,
    noise: Noise | None = None,
    freeze_others: bool = True,
) -> Step:
    """One step in an epoch that belongs to `task`: its gates alone are used.

    The loss is still that of all tasks, as published. See `task_of_epoch`; for the rest see `joint_step`.

    freeze_others: do not train the decoders of the other tasks
    """
    others = [decoder for name, decoder in model.decoders.items() if name != task]
    with _frozen(others if freeze_others else []):
        losses = _losses(model, x, targets, noise, task)
        return Step(losses, _move(model, optimiser, losses.total))


def pretraining_step(
    model: AdaModel, optimiser: torch.optim.Optimizer, x: Tensor, *, noise: Noise | None = None
) -> PretrainingStep:
    """One step of stage 2: selectors learn to open everything, nothing else is trained.

    The model runs in full; `pretraining_spec` has such a spec. As published, decoders are run too, so that their
    statistics move. x, noise: see `joint_step`
    """
    with _frozen([model.backbone, model.decoders]):
        model.train()
        loss = pretraining_loss(model(x, noise=noise).decisions)
        return PretrainingStep(loss.detach(), _move(model, optimiser, loss))


def task_of_epoch(model: AdaModel, epoch: int) -> Task:
    """Whose epoch it is where tasks take turns: each has one after the other."""
    tasks = model.spec.task_names
    return tasks[epoch % len(tasks)]


def pretraining_spec(spec: AdaSpec) -> AdaSpec:
    """The spec of stage 2 of a model: gates are soft, and computed only."""
    return spec.switched(adaptive=False, hard=False)


def parameter_groups(model: AdaModel, weight_decay: float = WEIGHT_DECAY) -> list[dict[str, Any]]:
    """Parameters for an optimiser: matrices with weight decay, vectors and biases without.

    Position bias tables decay with the quirk `decay_of_position_tables` only.
    """
    decays: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        table = name.endswith(_TABLE) and not model.spec.quirks.decay_of_position_tables
        plain = parameter.ndim < 2 or name.endswith(".bias")
        (others if plain or table else decays).append(parameter)
    return [{"params": decays, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _losses(
    model: AdaModel, x: Tensor, targets: Mapping[Task, Tensor], noise: Noise | None, task: Task | None
) -> StepLosses:
    model.train()
    output = model(x, noise=noise, task=task)
    return step_losses(model.spec, output.logits, targets, output.decisions)


def _move(model: AdaModel, optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    """Backward, clip, step; the gradient's norm before it was clipped."""
    if not bool(torch.isfinite(loss)):
        raise TrainingError(f"the loss is {loss.item()}; gradients would make every weight so")
    if not loss.requires_grad:
        raise TrainingError("nothing that the loss depends on is trained: is this a model without gates?")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimiser.step()
    return float(norm)


@contextmanager
def _frozen(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Parameters of these modules get no gradient meanwhile."""
    frozen = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
