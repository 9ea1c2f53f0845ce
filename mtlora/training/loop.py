"""The loop that `pretrain` and `train` share: steps, gradients, averages, logs, checkpoints, resume.

Everything random in a step is drawn from (seed, step, process), so a run that is killed and resumed computes what an
uninterrupted one does: a checkpoint holds tensors and the number of steps, no generator states.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from mtlora.data.sampling import step_generator
from mtlora.errors import TrainingError
from mtlora.training.checkpoint import CHECKPOINT_FILE, MetricsLog, load_checkpoint, save_checkpoint
from mtlora.training.optim import learning_rate
from mtlora.training.processes import Crew

logger = logging.getLogger(__name__)

StepReport = Callable[[int, int, dict[str, float]], None]
"""Called with (steps done, steps in all, mean losses since the last report)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long and how fast; see `learning_rate` for the schedule."""

    steps: int
    lr: float
    warmup: int = 0
    hold: float = 0.0
    floor: float = 0.0
    clip: float = 5.0
    ema_decay: float = 0.0  # 0: no moving average of the weights
    seed: int = 0
    save_every: int = 200
    log_every: int = 20
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.save_every < 1 or self.log_every < 1 or not 0 <= self.warmup <= self.steps:
            raise TrainingError(f"steps, warm-up and intervals do not fit together: {self}")
        if not 0 < self.lr < 10 or not 0 <= self.ema_decay < 1 or not 0 <= self.hold <= 1 or self.clip <= 0:
            raise TrainingError(f"a number is out of range: {self}")


class Job(Protocol):
    """What is trained, and on what."""

    @property
    def model(self) -> nn.Module:
        """The network; the checkpoint holds its whole state."""

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the entries of `losses`; `loss`, the sum that is minimised, is one of them."""

    def losses(self, generator: Generator) -> dict[str, Tensor]:
        """Losses of one fresh batch drawn with this generator; scalars."""


class Trainer:
    """One process's state of a run: model, optimisers, moving average, number of steps done."""

    def __init__(
        self,
        job: Job,
        optimizers: Sequence[torch.optim.Optimizer],
        config: LoopConfig,
        identity: dict[str, Any],
        crew: Crew,
    ) -> None:
        self.job, self.config, self.crew = job, config, crew
        self.optimizers = list(optimizers)
        self.identity = json.loads(json.dumps(identity, default=str))
        self.step = 0
        self.params = [p for p in job.model.parameters() if p.requires_grad]
        self.average = {n: t.detach().clone() for n, t in _floats(job.model)} if config.ema_decay else {}
        half = config.device.startswith("cuda") and not torch.cuda.is_bf16_supported()
        self.scaler = torch.amp.GradScaler(enabled=half)

    def advance(self) -> dict[str, Tensor]:
        """One optimisation step; returns this process's losses, detached."""
        config = self.config
        lr = learning_rate(
            self.step, steps=config.steps, peak=config.lr, warmup=config.warmup, hold=config.hold, floor=config.floor
        )
        generator = step_generator(config.seed, self.step, self.crew.rank)
        torch.manual_seed(generator.initial_seed() % 2**63)  # for dropout and stochastic depth
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
        with autocast(config.device):
            losses = self.job.losses(generator)
        self.scaler.scale(losses["loss"]).backward()  # type: ignore[no-untyped-call]
        self.crew.mean_gradients(self.params)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.params, config.clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self._follow()
        self.step += 1
        return {**{name: value.detach() for name, value in losses.items()}, "gradient_norm": norm}

    def _follow(self) -> None:
        if not self.average:
            return
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            current = [t for _, t in _floats(self.job.model)]
            torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    def state(self) -> dict[str, Any]:
        """All of the run, for `save_checkpoint`."""
        self.crew.mean_buffers(self.job.model)
        return {
            "step": self.step,
            "identity": json.dumps(self.identity),
            "model": self.job.model.state_dict(),
            "average": self.average,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same run; `TrainingError` names what differs."""
        theirs = json.loads(state["identity"])
        keys = sorted(theirs.keys() | self.identity.keys())
        changed = [k for k in keys if theirs.get(k) != self.identity.get(k)]
        if changed:
            told = "; ".join(f"{k} was {theirs.get(k)!r}, now {self.identity.get(k)!r}" for k in changed)
            raise TrainingError(f"the checkpoint belongs to another run: {told}")
        self.job.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]


def run_loop(trainer: Trainer, folder: Path, report: StepReport, *, resume: bool) -> None:
    """Train to the end, saving and logging into `folder`; `resume` goes on from the checkpoint there."""
    exists = (folder / CHECKPOINT_FILE).is_file()
    if exists and not resume:
        raise TrainingError(f"{folder} already holds a run; go on with --resume or choose another folder")
    if exists:
        trainer.restore(load_checkpoint(folder))
    config, crew = trainer.config, trainer.crew
    names = [*trainer.job.loss_names, "gradient_norm"]
    columns = ["step", "lr", "seconds_per_step", *names]
    log = MetricsLog(folder, columns, trainer.step) if crew.leads else None
    sums = dict.fromkeys(names, 0.0)
    started, since = time.monotonic(), trainer.step
    while trainer.step < config.steps:
        for name, value in trainer.advance().items():
            sums[name] += float(value)
        if not sums["loss"] < float("inf"):
            raise TrainingError(f"the loss is {sums['loss']} at step {trainer.step}; try a smaller learning rate")
        if trainer.step % config.log_every == 0 or trainer.step == config.steps:
            count, now = trainer.step - since, time.monotonic()
            means = {name: value / count for name, value in sums.items()}
            if log is not None:
                lr = trainer.optimizers[0].param_groups[0]["lr"]
                rounded = {name: f"{value:.6g}" for name, value in means.items()}
                log.write(
                    {"step": trainer.step, "lr": lr, "seconds_per_step": f"{(now - started) / count:.3f}", **rounded}
                )
                report(trainer.step, config.steps, means)
            sums, started, since = dict.fromkeys(names, 0.0), now, trainer.step
        if trainer.step % config.save_every == 0 or trainer.step == config.steps:
            state = trainer.state()
            if crew.leads:
                save_checkpoint(folder, state)


def autocast(device: str) -> contextlib.AbstractContextManager[Any]:
    """Automatic mixed precision on a GPU (bfloat16 where it can, else float16); nothing on the CPU."""
    if not device.startswith("cuda"):
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.autocast("cuda", dtype=dtype)


def _floats(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, t) for name, t in model.state_dict(keep_vars=False).items() if t.is_floating_point()]
