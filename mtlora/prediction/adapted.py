"""The adapted model: a backbone and an adapter set, put together for inference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtlora.inference import Backend, Query, Resident, make_backend
from mtlora.maps.postprocessing import at_model_size
from mtlora.ops.denormals import denormals_are_zero
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet
from mtlora.weights.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Adapted:
    """One adapter set, ready to predict with the engine that the service runs. Make it with `build_adapted`."""

    backend: Backend[Any]
    resident: Resident

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""
        return self.resident.spec

    def coarse_logits(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """Logits of `tasks` (None: all of the set), only those being computed, before the last upsampling.

        x:       float32 [B, 3, S, S], normalised with the spec's mean and std
        returns: float32 [B, K, S/8, S/8] for each task, on the CPU
        """
        wanted = self.spec.select(tuple(tasks) if tasks else None)
        if x.ndim != 4 or not len(x):
            raise MTLoRAError(f"input must be [B, 3, S, S] with B at least 1, got {list(x.shape)}")
        each = self.backend.forward([Query(self.resident, pixels, wanted) for pixels in x])
        return {task: torch.stack([logits[task] for logits in each]) for task in wanted}

    def __call__(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """Logits at the input's size: float32 [B, K, S, S] for each task; see `coarse_logits`."""
        coarse = self.coarse_logits(x, tasks)
        size = self.spec.image_size
        with denormals_are_zero():
            return {task: torch.stack([at_model_size(c, size) for c in logits]) for task, logits in coarse.items()}


def build_adapted(
    backbone: Backbone,
    adapter: AdapterSet,
    backend: FormKind = FormKind.AUTO,
    precision: Precision = Precision.FLOAT32,
) -> Adapted:
    """A set on its backbone, ready to predict, on the backbone's device; int8 needs a CPU.

    `AdapterMismatchError` if the set was trained on another backbone.
    """
    made = make_backend(backbone, backend, precision=precision)
    return Adapted(made, made.prepare(adapter))
