"""Small real adapter sets to test with."""

import torch
from torch import Tensor

from mtlora.vocabulary.model_shapes import adapter_shapes, frozen_shapes
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec, TaskSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import Backbone

FINGERPRINT = "0123456789abcdef" * 4

BACKBONE = BackboneSpec(name="swin_test", embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4), window_size=2)

SPEC = AdapterSpec(
    backbone=BACKBONE,
    image_size=64,
    tasks=tuple(TaskSpec.make(task, ranks=(2, 2, 2, 2)) for task in (Task.SEMSEG, Task.SALIENCY, Task.NORMALS)),
    ranks=(3, 3, 3, 3),
    decoder_channels=(2, 3, 4, 5),
)


def random_tensors(spec: AdapterSpec, seed: int = 0) -> dict[str, Tensor]:
    """Values for every tensor of an adapter file of `spec`; variances are positive, as BatchNorm needs."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in adapter_shapes(spec).items()}
    return {name: t.abs() + 0.5 if name.endswith("running_var") else t for name, t in tensors.items()}


def random_backbone(spec: AdapterSpec, seed: int = 1) -> Backbone:
    """A backbone with random weights that fits `spec`."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: s for name, s in (adapter_shapes(spec) | frozen_shapes(spec)).items() if _is_encoder(name)}
    tensors = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    return Backbone(spec.backbone, {name.removeprefix("backbone."): t for name, t in tensors.items()})


def _is_encoder(name: str) -> bool:
    parts = name.split(".")
    pairs = any(part in {"shared", "tasks"} for part in parts)
    addition = any(parts[i] in {"proj", "fc1", "fc2"} and parts[i + 1] == "norm" for i in range(len(parts) - 1))
    return parts[0] == "backbone" and not pairs and not addition
