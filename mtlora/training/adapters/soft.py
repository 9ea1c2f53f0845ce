"""Distillation in `train`: a teacher's logits for the very photos of a batch, computed now or stored before.

Stored logits are those of whole photos; they are sampled with a batch's own geometry, as labels are.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mtlora.data.augment import Batch, turn_normals
from mtlora.data.cache import Progress, no_progress
from mtlora.data.classes import source_rows
from mtlora.data.records import PhotoDataset
from mtlora.images.opening import open_photo
from mtlora.losses.soft import soft_loss
from mtlora.prediction.adapted import build_adapted
from mtlora.prediction.predict import Predictor, coarse_logits
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone

INDEX_FILE = "index.json"


class Teacher(Protocol):
    """Gives logits for a batch."""

    @property
    def specs(self) -> Mapping[Task, TaskSpec]:
        """What its tasks and their outputs are."""

    def logits(self, batch: Batch, photos: Tensor, tasks: Sequence[Task], /) -> dict[Task, Tensor]:
        """Float [B, K, h, w], any h and w; photos: float [B, 3, S, S], normalised."""


@dataclass(frozen=True, slots=True)
class LiveTeacher:
    """An adapter set that looks at the augmented photos themselves."""

    model: Predictor

    @classmethod
    def load(cls, adapter: Path, backbone: Path, spec: AdapterSpec, device: str) -> "LiveTeacher":
        """From its files; `spec` is the student's."""
        model = build_adapted(load_backbone(backbone).to(device), load_adapter(adapter))
        if (model.spec.mean, model.spec.std) != (spec.mean, spec.std):
            raise TrainingError(f"the teacher normalises photos otherwise: {model.spec.mean}, {model.spec.std}")
        return cls(model)

    @property
    def specs(self) -> Mapping[Task, TaskSpec]:
        """See `Teacher.specs`."""
        return {task.task: task for task in self.model.spec.tasks}

    def logits(self, _batch: Batch, photos: Tensor, tasks: Sequence[Task], /) -> dict[Task, Tensor]:
        """See `Teacher.logits`."""
        side = self.model.spec.image_size
        if photos.shape[-1] != side:
            photos = F.interpolate(photos, (side, side), mode="bilinear", align_corners=False, antialias=True)
        with torch.inference_mode():
            found = self.model.coarse_logits(photos, tasks)
        return {task: scores.clone().to(photos.device) for task, scores in found.items()}  # clones can be learned from


@dataclass(frozen=True, slots=True, eq=False)
class StoredTeacher:
    """Logits of whole photos: float16 [N, K, h, w] per task; rows: int64, of the cache's photos in these arrays."""

    maps: Mapping[Task, NDArray[np.float16]]
    rows: NDArray[np.int64]
    specs: Mapping[Task, TaskSpec]

    @classmethod
    def load(cls, folder: Path, ids: Sequence[str]) -> "StoredTeacher":
        """What `store_logits` wrote; every one of `ids` must be there."""
        try:
            index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
            known = {name: row for row, name in enumerate(index["ids"])}
            specs = {Task(name): TaskSpec.from_json(text) for name, text in index["tasks"].items()}
            maps = {task: np.load(folder / f"{task.value}.npy", mmap_mode="r") for task in specs}
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(f"{folder} holds no soft labels: {error}") from error
        missing = [name for name in ids if name not in known]
        if missing:
            raise TrainingError(f"{folder} has no soft labels of {len(missing)} photos, such as {missing[0]}")
        return cls(maps, np.array([known[name] for name in ids]), specs)

    def logits(self, batch: Batch, photos: Tensor, tasks: Sequence[Task], /) -> dict[Task, Tensor]:
        """See `Teacher.logits`."""
        found = {}
        for task in tasks:
            stored = torch.from_numpy(self.maps[task][self.rows[batch.indices]]).to(photos.device).float()
            grid = batch.geometry.grid(*stored.shape[-2:])
            sampled = F.grid_sample(stored, grid, padding_mode="border", align_corners=False)
            if task is Task.NORMALS:
                sampled = turn_normals(sampled, batch.geometry.turn)
            if task is Task.DEPTH:
                sampled = sampled / batch.geometry.zoom[:, None, None, None]
            found[task] = sampled
        return found


def store_logits(model: Predictor, dataset: PhotoDataset, folder: Path, progress: Progress = no_progress) -> None:
    """Write a set's coarse logits of every photo into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[Task, NDArray[np.float16]] = {}
    for row, record in enumerate(dataset.records):
        for task, scores in coarse_logits(model, open_photo(record.photo), model.spec.task_names).items():
            if task not in arrays:
                path, shape = folder / f"{task.value}.npy", (len(dataset), *scores.shape)
                arrays[task] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            arrays[task][row] = scores.cpu().numpy()
        progress(row + 1, len(dataset))
    arrays.clear()  # closes the files
    tasks = {task.task.value: task.to_json() for task in model.spec.tasks}
    index = {"ids": [record.id for record in dataset.records], "tasks": tasks}
    (folder / INDEX_FILE).write_text(json.dumps(index), encoding="utf-8")


class SoftTargets:
    """A teacher's logits as targets of a student's tasks, class by class name."""

    def __init__(self, teacher: Teacher, spec: AdapterSpec, temperature: float) -> None:
        self._teacher, self._temperature = teacher, temperature
        self._rows: dict[Task, list[int]] = {}
        for task in spec.tasks:
            if task.task not in teacher.specs:
                continue
            rows = source_rows(task, teacher.specs[task.task])
            if rows is None:
                raise TrainingError(f"the teacher lacks classes of {task.task.value} that the set has")
            self._rows[task.task] = rows
        if not self._rows:
            raise TrainingError(f"the teacher knows none of {', '.join(spec.task_names)}")

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that teacher and student share."""
        return tuple(self._rows)

    def losses(self, batch: Batch, photos: Tensor, coarse: Mapping[Task, Tensor]) -> dict[Task, Tensor]:
        """`soft_loss` of every shared task; photos: float [B, 3, S, S], normalised; coarse: the student's logits."""
        wanted = self._teacher.logits(batch, photos, self.tasks)
        losses = {}
        for task, rows in self._rows.items():
            logits = coarse[task].float()
            height, width = logits.shape[-2:]
            inside = (batch.geometry.grid(height, width).abs() <= 1).all(dim=-1)[:, None].to(logits.device)
            target = wanted[task][:, rows].float()
            if target.shape[-2:] != logits.shape[-2:]:
                target = F.interpolate(target, (height, width), mode="bilinear", align_corners=False)
            losses[task] = soft_loss(task, logits, target, inside, self._temperature)
        return losses
