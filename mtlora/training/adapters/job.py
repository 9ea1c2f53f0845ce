"""The batches and losses of `train`, divided over processes and accumulation steps that add up to one batch's."""

import dataclasses
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mtlora.data.array_store import PhotoArrays
from mtlora.data.augment import Batch, make_batch
from mtlora.data.cache import PhotoCache
from mtlora.data.sampling import draw, shuffled, step_generator
from mtlora.losses import loss_counts, task_loss, weighted_sum
from mtlora.model.gating import Decided
from mtlora.model.mtlora import MTLoRAModel
from mtlora.model.policy.plan import shares
from mtlora.training.adapters.balance import balance
from mtlora.training.adapters.config import TrainConfig
from mtlora.training.adapters.soft import SoftTargets
from mtlora.training.run.loop import Part
from mtlora.training.run.processes import ProcessGroup
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import Task

Counts = dict[Task, Tensor]

_BUDGETS = 2**31
"""Takes the place of a process's number where the budget of a step is drawn: no process has it."""


class AdapterJob:
    """Draws batches and computes the losses of one process; see `Job`."""

    def __init__(
        self,
        model: MTLoRAModel,
        photos: PhotoCache,
        config: TrainConfig,
        group: ProcessGroup,
        soft: SoftTargets | None = None,
    ) -> None:
        self._shares = group.processes * config.accumulate
        if config.batch % self._shares:
            raise TrainingError(
                f"a batch of {config.batch} cannot be shared by {group.processes} processes x {config.accumulate} steps"
            )
        self._adapted, self._config, self._group, self._soft = model, config, group, soft
        self._device = group.device(config.loop.device)
        self._arrays = PhotoArrays.of(photos, self._device)
        self._balance = balance(photos, config.spec, config.class_balance)
        self._labelled = np.flatnonzero(self._balance.photos)
        self._weights = {task: w.to(self._device) for task, w in self._balance.classes.items()}
        self._mean = torch.tensor(config.spec.mean, device=self._device)[:, None, None]
        self._std = torch.tensor(config.spec.std, device=self._device)[:, None, None]

    @property
    def model(self) -> MTLoRAModel:
        """See `Job.model`."""
        return self._adapted

    @property
    def loss_names(self) -> tuple[str, ...]:
        """`loss`, one per task, and with a teacher one more per task that it knows."""
        tasks = tuple(task.value for task in self._config.spec.task_names)
        budget = ("budget", "share") if self._config.policy else ()
        return ("loss", *tasks, *budget, *(f"soft_{task.value}" for task in (self._soft.tasks if self._soft else ())))

    @property
    def batch(self) -> int:
        """See `Job.batch`."""
        return self._config.batch

    def parts(self, step: int) -> list[Part]:
        """See `Job.parts`."""
        batches = [self.make(step, part) for part in range(self._config.accumulate)]
        counts = self._counts(batches)
        return [partial(self._losses, batch, counts, self._budget(step)) for batch in batches]

    def make(self, step: int, part: int = 0) -> Batch:
        """This process's photos of one accumulation step; targets are in the set's classes."""
        config = self._config
        generator = step_generator(config.loop.seed, step)  # the same in all processes
        first = self._group.rank + self._group.processes * part
        batch = make_batch(
            self._arrays,
            self._indices(step, generator),
            config.side,
            config.augment,
            generator,
            label_size=config.side // config.label_stride,
            keep=slice(first, None, self._shares),
        )
        targets = {task: self._balance.target(task, target) for task, target in batch.targets.items()}
        return dataclasses.replace(batch, targets=targets)

    def _indices(self, step: int, generator: torch.Generator) -> NDArray[np.int64]:
        """With balanced classes photos of rare ones come more often; else every pass shows each photo once."""
        config = self._config
        if config.class_balance:
            return draw(self._balance.photos, config.batch, generator)
        return shuffled(self._labelled, config.batch, config.loop.seed, step)

    def _counts(self, batches: list[Batch]) -> Counts:
        """What the losses of the whole step are divided by; from the labels alone, so known beforehand."""
        tasks = self._config.spec.task_names
        rows = [[loss_counts(task, batch.targets[task], self._weight(task)) for task in tasks] for batch in batches]
        total = torch.stack([torch.stack(row) for row in rows]).sum(dim=0)
        self._group.add_up(total)
        return dict(zip(tasks, total, strict=True))

    def _weight(self, task: Task) -> Tensor | None:
        return self._weights.get(task) if self._config.class_balance else None

    def _budget(self, step: int) -> float:
        """What the blocks of this step may cost, the same in all processes; 1: everything is computed."""
        policy = self._config.policy
        if policy is None or step < policy.open_steps:
            return 1.0
        drawn = torch.rand((), generator=step_generator(self._config.loop.seed, step, _BUDGETS))
        return policy.least + (1 - policy.least) * float(drawn)

    def _losses(self, batch: Batch, counts: Counts, compute: float) -> dict[str, Tensor]:
        photos = (batch.photos - self._mean) / self._std
        coarse, share = self._logits(photos, compute)
        losses: dict[Task, Tensor] = {}
        for task in self._config.spec.task_names:
            target = batch.targets[task]
            logits = F.interpolate(coarse[task].float(), target.shape[-2:], mode="bilinear", align_corners=False)
            losses[task] = task_loss(task, logits, target, self._weight(task), counts[task])
        total = weighted_sum(losses, self._config.task_weights)
        named = {task.value: loss for task, loss in losses.items()}
        if self._config.policy is not None:
            miss = (share - compute).square().mean() / self._shares
            total = total + self._config.policy.weight * miss
            named |= {"budget": miss, "share": share.mean() / self._shares}
        if self._soft is not None:
            taught = {task: loss / self._shares for task, loss in self._soft.losses(batch, photos, coarse).items()}
            total = total + self._config.distill * weighted_sum(taught, self._config.task_weights)
            named |= {f"soft_{task.value}": loss for task, loss in taught.items()}
        return {"loss": total, **named}

    def _logits(self, photos: Tensor, compute: float) -> tuple[Counts, Tensor]:
        """Coarse logits, and each photo's share of the multiply-adds of all blocks: float [N]."""
        model, tasks = self._adapted, self._config.spec.task_names
        if model.policy is None or compute == 1:
            return model.coarse_logits(photos), photos.new_ones(len(photos))
        side = model.input_side
        if self._config.policy is not None and self._config.policy.kept:  # as it is served, without gradients
            gates = model.plan(photos, tasks, compute)
            coarse = model.decided_logits(photos, tasks, Decided(gates))
            return coarse, shares(gates, multiply_adds(model.spec, side), tasks).float()
        decision = model.training_decision(compute)
        coarse = model.decided_logits(photos, tasks, decision)
        computed = decision.open_shares()
        return coarse, shares(decision.gates, multiply_adds(model.spec, side), tasks, computed).float()
