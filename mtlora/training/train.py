"""`mtlora train`: an adapter set on a frozen backbone (paper, section 3; recipe: specification, section 7)."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mtlora.adapter_file import save_adapter
from mtlora.backbone import Backbone, load_backbone
from mtlora.data.augment import AugmentConfig, make_batch
from mtlora.data.cache import PhotoCache, Progress, cached, no_progress
from mtlora.data.classes import source_rows
from mtlora.data.layout import open_dataset
from mtlora.data.sampling import draw
from mtlora.errors import TrainingError
from mtlora.losses import task_loss, weighted_sum
from mtlora.model import MTLoRAModel, build_model
from mtlora.spec import AdapterSpec
from mtlora.tasks import Task
from mtlora.training.balance import balance
from mtlora.training.checkpoint import load_checkpoint
from mtlora.training.loop import LoopConfig, StepReport, Trainer, run_loop
from mtlora.training.optim import build_adamw
from mtlora.training.pretrain import cache_side
from mtlora.training.processes import Crew, run_crew

ADAPTER_FILE = "adapter.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the training of an adapter set."""

    spec: AdapterSpec
    backbone: Path
    data: Path
    out: Path
    cache: Path
    loop: LoopConfig
    name: str = ""
    split: str = "train"
    init: Path | None = None  # a pretraining run whose decoders are taken over
    batch: int = 16  # photos a step, over all processes
    processes: int = 1
    weight_decay: float = 0.05
    drop_path: float = 0.2
    label_stride: int = 1  # losses are taken at 1/stride of the input's side
    task_weights: dict[Task, float] = field(default_factory=dict)  # where not given: the published ones
    class_balance: float = 0.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.processes < 1 or self.batch % self.processes:
            raise TrainingError(f"a batch of {self.batch} cannot be shared by {self.processes} processes")
        if self.label_stride < 1 or self.spec.image_size % self.label_stride:
            raise TrainingError(f"label stride {self.label_stride} does not divide {self.spec.image_size} px")

    def identity(self) -> dict[str, Any]:
        """What must not change when a run is resumed."""
        free = {"out", "cache", "data", "backbone", "init", "spec", "loop", "name"}
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in free}
        loop = {k: v for k, v in dataclasses.asdict(self.loop).items() if k not in {"save_every", "device"}}
        return {**plain, "spec": self.spec.to_json(), "augment": dataclasses.asdict(self.augment), **loop}


def train(config: TrainConfig, report: StepReport, progress: Progress = no_progress, *, resume: bool = False) -> Path:
    """Train to the end and write the adapter file; returns its path."""
    config.out.mkdir(parents=True, exist_ok=True)
    _open_cache(config, progress)  # fill it before the processes start
    run_crew(_main, (config, report, resume), config.processes, config.out)
    path = config.out / ADAPTER_FILE
    export(config, path)
    return path


def export(config: TrainConfig, path: Path) -> str:
    """Write the last checkpoint of a run (the moving average where there is one) as an adapter file; its digest."""
    backbone = load_backbone(config.backbone)
    state = load_checkpoint(config.out)
    trained = {**state["model"], **state["average"]}
    tensors = {name: trained[name] for name in build_model(backbone, config.spec).adapter_tensors()}
    provenance = {
        "data": config.data.name,
        "split": config.split,
        "steps": state["step"],
        "batch": config.batch,
        "seed": config.loop.seed,
        "lr": config.loop.lr,
        "started_from": "fresh adapters" if config.init is None else "decoders of the pretraining run",
    }
    return save_adapter(
        path,
        config.spec,
        tensors,
        backbone_name=backbone.spec.name,
        backbone_fingerprint=backbone.fingerprint(config.spec),  # of the file: averaging can turn -0.0 into 0.0
        name=config.name,
        provenance=provenance,
        dtype=torch.float16,
    )


def start_from(model: MTLoRAModel, state: Mapping[str, Any]) -> list[Task]:
    """Take over projections and decoders of a pretraining checkpoint, class by class name; the tasks that got them."""
    tensors: dict[str, Tensor] = {**state["model"], **state["average"]}
    source = AdapterSpec.from_json(_spec_json(state))
    own = model.state_dict()
    taken: list[Task] = []
    for task in model.spec.tasks:
        prefixes = (f"projections.{task.task}.", f"decoders.{task.task}.")
        names = [name for name in own if name.startswith(prefixes)]
        if task.task not in source.task_names or any(name not in tensors for name in names):
            continue
        rows = source_rows(task, source.task(task.task))
        fitted = {name: _fit(tensors[name], own[name], rows) for name in names}
        if any(tensor is None for tensor in fitted.values()):
            continue
        model.load_state_dict({name: t for name, t in fitted.items() if t is not None}, strict=False)
        taken.append(task.task)
    return taken


def _fit(tensor: Tensor, like: Tensor, rows: list[int] | None) -> Tensor | None:
    if tensor.shape == like.shape:
        return tensor
    if rows is None or tensor.shape[1:] != like.shape[1:] or len(like) != len(rows):
        return None
    return tensor[rows]


def _spec_json(state: Mapping[str, Any]) -> str:
    identity = json.loads(state["identity"])
    return str(identity["spec"])


def _open_cache(config: TrainConfig, progress: Progress = no_progress) -> PhotoCache:
    tasks = config.spec.task_names
    dataset = open_dataset(config.data, config.split, tasks)
    return cached(dataset, tasks, cache_side(config.spec.image_size), config.cache, progress)


def build_trainer(config: TrainConfig, backbone: Backbone, photos: PhotoCache, crew: Crew) -> Trainer:
    """Model, data and optimiser of one process, at step 0."""
    torch.manual_seed(config.loop.seed)
    model = build_model(backbone, config.spec, drop_path=config.drop_path)
    if config.init is not None and not start_from(model, load_checkpoint(config.init)):
        raise TrainingError(f"{config.init} has no decoder that fits any of {', '.join(config.spec.task_names)}")
    model.to(config.loop.device).train()
    optimizer = build_adamw(model.named_parameters(), config.loop.lr, config.weight_decay)
    return Trainer(AdapterJob(model, photos, config, crew), [optimizer], config.loop, config.identity(), crew)


def _main(crew: Crew, argument: tuple[TrainConfig, StepReport, bool]) -> None:
    config, report, resume = argument
    trainer = build_trainer(config, load_backbone(config.backbone), _open_cache(config), crew)
    run_loop(trainer, config.out, report, resume=resume)


class AdapterJob:
    """Draws batches and computes the losses of one process; see `Job`."""

    def __init__(self, model: MTLoRAModel, photos: PhotoCache, config: TrainConfig, crew: Crew) -> None:
        self._adapted, self._photos, self._config = model, photos, config
        self._count = config.batch // crew.processes
        self._balance = balance(photos, config.spec, config.class_balance)
        self._mean = torch.tensor(config.spec.mean)[:, None, None]
        self._std = torch.tensor(config.spec.std)[:, None, None]

    @property
    def model(self) -> MTLoRAModel:
        """See `Job.model`."""
        return self._adapted

    @property
    def loss_names(self) -> tuple[str, ...]:
        """`loss` and one per task."""
        return ("loss", *(task.value for task in self._config.spec.task_names))

    def losses(self, generator: Generator) -> dict[str, Tensor]:
        """See `Job.losses`."""
        config = self._config
        size, device = config.spec.image_size, config.loop.device
        indices = draw(self._balance.photos, self._count, generator)
        side = size // config.label_stride
        batch = make_batch(self._photos, indices, size, config.augment, generator, label_size=side)
        logits = self._adapted.coarse_logits(((batch.photos - self._mean) / self._std).to(device))
        losses = {task: self._task_loss(task, logits[task], batch.targets[task]) for task in config.spec.task_names}
        total = weighted_sum(losses, config.task_weights)
        return {"loss": total, **{task.value: loss for task, loss in losses.items()}}

    def _task_loss(self, task: Task, logits: Tensor, target: Tensor) -> Tensor:
        target = self._balance.target(task, target).to(logits.device)
        logits = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)
        weight = self._balance.classes.get(task) if self._config.class_balance else None
        return task_loss(task, logits, target, None if weight is None else weight.to(logits.device))
