"""The training loop of `pretrain` and `train`: steps, gradients, averages, logs, checkpoints, validation, resume.

Everything random in a step is drawn from the seed, the step's number and the process, so a run that is killed and
resumed computes what an uninterrupted one does: a checkpoint holds tensors and numbers, no generator states.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mtlora.data.sampling import step_generator
from mtlora.training.run.checkpoint import CHECKPOINT_FILE, MetricsLog, load_checkpoint, save_checkpoint
from mtlora.training.run.guard import Guard
from mtlora.training.run.identity import check_same
from mtlora.training.run.optim import learning_rate
from mtlora.training.run.precision import Precision, autocast, compute_dtype
from mtlora.training.run.processes import ProcessGroup
from mtlora.training.run.tensorboard import Scalars, open_scalars
from mtlora.vocabulary.errors import TrainingError

StepReport = Callable[[int, int, dict[str, float]], None]
"""Called with (steps done, steps in all, mean losses since the last report, `lr`, `images_per_s`).

After a look at the validation split: `delta_m` and the tasks' scores instead; where it ends the run, `steps in all`
are those done.
"""

EARLY_STEPS = (1, 3)
"""After so many steps of a process it reports, whether a row is due or not: the time left is known from two reports."""

LOOP_FREE = ("save_every", "log_every", "device", "tensorboard")
LOOP_LATER = ("warmup_from", "precision")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long and how fast; see `learning_rate` for the schedule."""

    steps: int
    lr: float
    warmup: int = 0
    warmup_from: float | None = None  # learning rate at which warm-up begins; None: `floor`
    hold: float = 0.0
    floor: float = 0.0
    clip: float = 5.0
    ema_decay: float = 0.0  # 0: no moving average of the weights
    seed: int = 0
    save_every: int = 200
    log_every: int = 20
    device: str = "cpu"
    precision: Precision = Precision.AUTO
    tensorboard: bool = True  # where it is installed

    def __post_init__(self) -> None:
        limits = (
            ("steps", self.steps >= 1, "at least 1"),
            ("save_every", self.save_every >= 1, "at least 1"),
            ("log_every", self.log_every >= 1, "at least 1"),
            ("warmup", 0 <= self.warmup <= self.steps, f"within the {self.steps} steps"),
            ("lr", 0 < self.lr < 10, "above 0 and below 10"),
            ("ema_decay", 0 <= self.ema_decay < 1, "from 0 to below 1"),
            ("hold", 0 <= self.hold <= 1, "within 0..1"),
            ("clip", self.clip > 0, "above 0"),
        )
        wrong = [f"{name} must be {right}, got {getattr(self, name)}" for name, fits, right in limits if not fits]
        if wrong:
            raise TrainingError("; ".join(wrong))

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        start = self.floor if self.warmup_from is None else self.warmup_from
        return learning_rate(
            step, steps=self.steps, peak=self.lr, warmup=self.warmup, hold=self.hold, floor=self.floor, start=start
        )


Part = Callable[[], dict[str, Tensor]]
"""Computes the losses of a part of a step's photos: shares, which add up over parts and processes."""


class Job(Protocol):
    """What is trained, and on what."""

    @property
    def model(self) -> nn.Module:
        """The network; the checkpoint holds its whole state."""

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the losses; `loss`, the sum that is minimised, is one of them."""

    @property
    def batch(self) -> int:
        """Photos a step, over all processes."""

    def parts(self, step: int) -> Sequence[Part]:
        """The parts of a step in this process, one after the other; gradients are added up over them."""


class Watch(Protocol):
    """Looks at the model now and then, and may end the run."""

    def due(self, step: int) -> bool:
        """Whether to look after this many steps."""

    def look(self, trainer: "Trainer", scalars: Scalars) -> None:
        """Evaluate; called in all processes."""

    @property
    def stopped(self) -> bool:
        """Whether the run is over."""

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""

    def restore(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""


class Trainer:
    """One process's state of a run: model, optimisers, moving average, number of steps done."""

    def __init__(
        self,
        job: Job,
        optimizers: Sequence[torch.optim.Optimizer],
        config: LoopConfig,
        identity: dict[str, Any],
        group: ProcessGroup,
    ) -> None:
        self.job, self.config, self.group = job, config, group
        self.optimizers = list(optimizers)
        self.identity = json.loads(json.dumps(identity, default=str))
        self.step = 0
        self.guard = Guard()
        self.params = [p for p in job.model.parameters() if p.requires_grad]
        self.average = {n: t.detach().clone() for n, t in _floats(job.model)} if config.ema_decay else {}
        self.device = group.device(config.device)
        self._dtype = compute_dtype(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(enabled=self._dtype is torch.float16)

    def advance(self) -> dict[str, float]:
        """One optimisation step; returns the losses of the whole batch and the norm of the gradients."""
        rate = self.config.rate(self.step)
        torch.manual_seed(step_seed(self.config.seed, self.step, self.group.rank))  # for dropout and stochastic depth
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate", 1.0)
            optimizer.zero_grad(set_to_none=True)
        found = self._gradients()
        self.group.add_gradients(self.params)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norms = torch.nn.utils.clip_grad_norm_(self.params, self.config.clip)
        *values, norm = torch.cat([found, norms[None].to(found)]).tolist()  # the one time a step waits for a GPU
        losses = dict(zip(self.job.loss_names, values, strict=True))
        # with loss scaling an infinite gradient is normal: the scaler skips the step
        self.guard.see(self.step + 1, losses["loss"], None if self.scaler.is_enabled() else norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self._follow()
        self.step += 1
        return {**losses, "gradient_norm": norm}

    def _gradients(self) -> Tensor:
        total = torch.zeros(len(self.job.loss_names), device=self.device)
        for part in self.job.parts(self.step):
            with autocast(self._dtype, self.device):
                losses = part()
            self.scaler.scale(losses["loss"]).backward()
            total += torch.stack([losses[name].detach().float() for name in self.job.loss_names])
        self.group.add_up(total)
        return total

    def _follow(self) -> None:
        if not self.average:
            return
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            current = [t for _, t in _floats(self.job.model)]
            torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    def state(self) -> dict[str, Any]:
        """All of the run, for `save_checkpoint`."""
        self.group.mean_buffers(self.job.model)
        return {
            "step": self.step,
            "identity": json.dumps(self.identity),
            "model": self.job.model.state_dict(),
            "average": self.average,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "guard": self.guard.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same run; `TrainingError` names what differs."""
        check_same(json.loads(state["identity"]), self.identity, free=LOOP_FREE)
        self.job.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])
        self.scaler.load_state_dict(state["scaler"])
        if "guard" in state:
            self.guard.restore(state["guard"])
        self.step = state["step"]


def run_loop(
    trainer: Trainer,
    folder: Path,
    report: StepReport,
    *,
    resume: bool,
    watch: Watch | None = None,
    begun: Callable[[int], None] = lambda _step: None,
) -> None:
    """Train to the end, saving and logging into `folder`; `resume` goes on from the checkpoint there.

    begun: called before the first step with the steps done before, once nothing speaks against the run any more
    """
    exists = (folder / CHECKPOINT_FILE).is_file()
    if exists and not resume:
        raise TrainingError(f"{folder} already holds a run; go on with --resume or choose another folder")
    trainer.guard.folder = folder
    if exists:
        state = load_checkpoint(folder)
        trainer.restore(state)
        trainer.guard.saved_step = trainer.step
        if watch is not None and "watch" in state:
            watch.restore(state["watch"])
    config, group = trainer.config, trainer.group
    begun(trainer.step)
    scalars = open_scalars(folder, wanted=config.tensorboard and group.leads)
    recorder = _Recorder(trainer, folder, report, scalars)
    while trainer.step < config.steps and not (watch is not None and watch.stopped):
        recorder.take(trainer.advance())
        if watch is not None and watch.due(trainer.step):
            watch.look(trainer, scalars)
        over = trainer.step == config.steps or (watch is not None and watch.stopped)
        if over or (trainer.step % config.save_every == 0 and not trainer.guard.worse):
            _save(trainer, folder, watch)


def _save(trainer: Trainer, folder: Path, watch: Watch | None) -> None:
    state = trainer.state()
    trainer.guard.keep(trainer.step, state["model"])
    if watch is not None:
        state["watch"] = watch.state()
    if trainer.group.leads:
        save_checkpoint(folder, state)
    trainer.guard.saved_step = trainer.step


class _Recorder:
    """Means of the losses since the last row, for metrics.csv, TensorBoard and the terminal."""

    def __init__(self, trainer: Trainer, folder: Path, report: StepReport, scalars: Scalars) -> None:
        self._trainer, self._report, self._scalars = trainer, report, scalars
        self._names = [*trainer.job.loss_names, "gradient_norm"]
        columns = ["step", "lr", "seconds_per_step", *self._names]
        self._log = MetricsLog(folder, columns, trainer.step) if trainer.group.leads else None
        self._first = trainer.step
        self._begin()

    def _values(self, seconds: float) -> dict[str, float]:
        """Means since the last row, the learning rate, the pace."""
        trainer, count = self._trainer, self._trainer.step - self._since
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        pace = {"lr": rate, "images_per_s": trainer.job.batch * count / max(seconds, 1e-9)}
        return {name: value / count for name, value in self._sums.items()} | pace

    def _begin(self) -> None:
        self._sums = dict.fromkeys(self._names, 0.0)
        self._started, self._since = time.monotonic(), self._trainer.step

    def take(self, losses: dict[str, float]) -> None:
        """Count the losses of a step; write where it is time."""
        trainer, config = self._trainer, self._trainer.config
        for name, value in losses.items():
            self._sums[name] += value
        if self._log is not None and trainer.step - self._first in EARLY_STEPS:
            self._report(trainer.step, config.steps, self._values(time.monotonic() - self._started))
        if trainer.step % config.log_every and trainer.step != config.steps:
            return
        if self._log is not None:
            self._write(self._log, time.monotonic() - self._started, trainer.step - self._since)
        self._begin()

    def _write(self, log: MetricsLog, seconds: float, count: int) -> None:
        trainer, values = self._trainer, self._values(seconds)
        rounded = {name: f"{values[name]:.6g}" for name in self._names}
        log.write({"step": trainer.step, "lr": values["lr"], "seconds_per_step": f"{seconds / count:.3f}", **rounded})
        self._scalars(trainer.step, {f"train/{name}": value for name, value in values.items()})
        if trainer.step - self._first not in EARLY_STEPS:
            self._report(trainer.step, trainer.config.steps, values)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's own generator in one step of one process."""
    return step_generator(seed, step, rank).initial_seed() % 2**63


def _floats(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, t) for name, t in model.state_dict(keep_vars=False).items() if t.is_floating_point()]
