"""Small real objects for tests: a backbone, specs, models with every tensor away from its initial value."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.baselines import plain_mtlora
from benchmarks.baselines.plain_mtlora import PlainMTLoRA
from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec, TaskSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import Backbone, build_swin

PASCAL_TASKS = (Task.SEMSEG, Task.NORMALS, Task.SALIENCY, Task.HUMAN_PARTS)


def backbone_spec(**changes: Any) -> BackboneSpec:
    """Width 8, window 4: builds in milliseconds."""
    shape = {"name": "test-swin", "embed_dim": 8, "depths": (2, 1, 2, 1), "num_heads": (1, 2, 2, 4), "window_size": 4}
    return BackboneSpec(**(shape | changes))


def make_backbone(spec: BackboneSpec | None = None, *, image_size: int = 64, seed: int = 0) -> Backbone:
    """A random backbone, every tensor (norms too) away from its initial value."""
    spec = spec or backbone_spec()
    torch.manual_seed(seed)
    return Backbone(spec, _noisy(dict(build_swin(spec, image_size).state_dict())))


def adapter_spec(
    backbone: BackboneSpec | None = None, *, tasks: tuple[Task, ...] = PASCAL_TASKS, **changes: Any
) -> AdapterSpec:
    """Four PASCAL tasks at 64 px with small ranks."""
    fields: dict[str, Any] = {
        "backbone": backbone or backbone_spec(),
        "image_size": 64,
        "tasks": tuple(TaskSpec.make(task, ranks=(2, 2, 2, 2)) for task in tasks),
        "ranks": (3, 3, 3, 3),
        "dropout": (0.0, 0.0, 0.0, 0.0),
        "decoder_channels": (3, 4, 5, 6),
    }
    return AdapterSpec(**(fields | changes))


def make_model(backbone: Backbone, spec: AdapterSpec, *, seed: int = 1) -> MTLoRAModel:
    """A model in eval mode whose trained tensors are all random, so that a wrong path shows."""
    torch.manual_seed(seed)
    model = build_model(backbone, spec)
    model.load_adapter_tensors(_noisy(model.adapter_tensors()))
    return model.eval()


def oracle_of(model: MTLoRAModel) -> PlainMTLoRA:
    """The plain implementation with the same tensors."""
    return plain_mtlora(model.spec, model.state_dict())


def _noisy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    noisy = {}
    for name, tensor in tensors.items():
        if name.endswith("running_var"):
            noisy[name] = torch.rand_like(tensor) + 0.5
        elif tensor.ndim > 1:
            noisy[name] = torch.randn_like(tensor) * (0.15 if "lora" in name else tensor[0].numel() ** -0.5)
        else:
            noisy[name] = tensor + 0.1 * torch.randn_like(tensor)
    return noisy
