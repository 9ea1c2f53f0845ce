"""Small real objects for tests: a backbone, specs, models with every tensor away from its initial value."""

from typing import Any

import torch
from torch import Tensor

from mtlora.backbone import Backbone, build_swin
from mtlora.model import MTLoRAModel, build_model
from mtlora.spec import AdapterSpec, BackboneSpec, TaskSpec
from mtlora.tasks import Task
from tests.oracle import Oracle

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


def oracle_of(model: MTLoRAModel) -> Oracle:
    """The plain implementation with the same tensors."""
    spec = model.spec
    return Oracle(
        state={name: tensor.detach() for name, tensor in model.state_dict().items()},
        tasks=[task.value for task in spec.task_names],
        depths=spec.backbone.depths,
        heads=spec.backbone.num_heads,
        window=spec.backbone.window_size,
        mode=spec.mode.value,
        scaling={"shared": spec.scaling} | {t.task.value: t.scaling for t in spec.tasks},
        task_linears=_task_linears(spec),
        decoder={t.task.value: t.decoder.value for t in spec.tasks},
    )


def _task_linears(spec: AdapterSpec) -> frozenset[str]:
    if spec.mode == "lora_only":
        return frozenset()
    switches = {"attn.proj": spec.adapt_proj, "mlp.fc1": spec.adapt_fc1, "mlp.fc2": spec.adapt_fc2}
    return frozenset(
        f"backbone.layers.{stage}.blocks.{block}.{linear}"
        for stage, depth in enumerate(spec.backbone.depths)
        for block in (range(depth) if spec.intermediate_specialization else [depth - 1])
        for linear, enabled in switches.items()
        if enabled and spec.ranks[stage] > 0
    )


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
