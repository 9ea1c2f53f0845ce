"""Small runs on drawn photos: seconds of training for tests, also as a program that can be killed."""

import sys
from pathlib import Path
from typing import Any

import torch

from mtlora.data.augment import AugmentConfig
from mtlora.training.adapters.config import TrainConfig
from mtlora.training.adapters.train import train
from mtlora.training.pretraining.pretrain import PretrainConfig
from mtlora.training.run.loop import LoopConfig
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.tasks import Task
from testing.factories import backbone_spec

TASKS = (Task.SEMSEG, Task.HUMAN_PARTS, Task.SALIENCY, Task.NORMALS)
FAST = AugmentConfig(scale=(0.8, 1.25), jitter=0.2)


def spec(tasks: tuple[Task, ...] = TASKS, **changes: Any) -> AdapterSpec:
    """64 px, window 2 (so that pretraining has whole windows), small ranks, some dropout."""
    fields: dict[str, Any] = {
        "backbone": backbone_spec(window_size=2),
        "image_size": 64,
        "tasks": tuple(TaskSpec.make(task, ranks=(2, 2, 2, 2)) for task in tasks),
        "ranks": (2, 2, 2, 2),
        "decoder_channels": (4, 4, 4, 4),
    }
    return AdapterSpec(**(fields | changes))


def loop(steps: int, **changes: Any) -> LoopConfig:
    """A quick schedule that logs every step."""
    fields: dict[str, Any] = {"lr": 2e-3, "warmup": min(2, steps), "ema_decay": 0.9, "save_every": 3}
    fields |= {"log_every": 1, "tensorboard": False}
    return LoopConfig(steps=steps, **(fields | changes))


def pretrain_config(data: Path, out: Path, steps: int, **changes: Any) -> PretrainConfig:
    """Without a teacher, unless told otherwise."""
    fields: dict[str, Any] = {
        "spec": spec(),
        "data": data,
        "out": out,
        "cache": data.parent / "cache",
        "loop": loop(steps),
        "image_size": 64,
        "batch": 4,
        "distill": 0.0,
        "drop_path": 0.1,
    }
    return PretrainConfig(**(fields | changes))


def train_config(data: Path, backbone: Path, out: Path, steps: int, **changes: Any) -> TrainConfig:
    """With dropout and stochastic depth, so that a resumed run needs the right random numbers."""
    fields: dict[str, Any] = {
        "spec": spec(),
        "backbone": backbone,
        "data": data,
        "out": out,
        "cache": data.parent / "cache",
        "loop": loop(steps),
        "batch": 4,
        "augment": FAST,
    }
    return TrainConfig(**(fields | changes))


def silent(_step: int, _steps: int, _losses: dict[str, float]) -> None:
    """Report nothing."""


def repeatable(data: Path, backbone: Path, out: Path, steps: int, **changes: Any) -> TrainConfig:
    """Nothing random inside the network, so that any number of processes computes the same."""
    return train_config(data, backbone, out, steps, spec=spec(dropout=(0.0,) * 4), drop_path=0.0, **changes)


def main(data: str, backbone: str, out: str, steps: str, kind: str = "usual") -> None:
    """`python -m testing.training_runs DATA BACKBONE OUT STEPS` trains a set, resuming what is there."""
    torch.set_num_threads(1)
    make = repeatable if kind == "repeatable" else train_config
    train(make(Path(data), Path(backbone), Path(out), int(steps)), silent, resume=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
