"""Sets, images and what must be equal: shared by the tests of forms on a CPU and on a GPU."""

from collections.abc import Sequence
from typing import Any

import torch

from mtlora.inference import Backend, Query
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet
from mtlora.weights.adapter_file.manifest import AdapterManifest, needed_version
from mtlora.weights.backbone import Backbone
from testing.factories import make_model

TOLERANCE = 1e-4  # of the largest absolute logit; forms differ in the order of float32 sums only

SPEC_CHANGES: list[dict[str, Any]] = [
    {},
    {"learned_scaling": True, "learned_task_scaling": True},
    {"adapt_reduction": True},
    {"intermediate_specialization": True},
    {"adapt_proj": False},
    {"adapt_fc1": False},
    {"adapt_fc2": False},
    {"adapt_proj": False, "adapt_fc1": False},
    {"adapt_qkv": False},
    {"ranks": (3, 0, 2, 1)},
    {"adapt_proj": False, "adapt_fc1": False, "adapt_fc2": False},
    {"train_layer_norm": False, "train_position_bias": False, "train_patch_embed": False, "train_reduction": False},
]


def name_changes(changes: dict[str, Any]) -> str:
    """Of a test of one of them."""
    return ",".join(changes) or "all"


def make_set(backbone: Backbone, spec: AdapterSpec, *, seed: int = 1, dtype: torch.dtype = torch.float32) -> AdapterSet:
    """A random set for a backbone."""
    tensors = {n: t.to(dtype) for n, t in make_model(backbone, spec, seed=seed).adapter_tensors().items()}
    manifest = AdapterManifest(
        format_version=needed_version(spec),
        spec=spec,
        backbone_name="test",
        backbone_fingerprint=backbone.fingerprint(spec),
    )
    return AdapterSet(manifest, tensors, "0" * 64, 0)


def images(spec: AdapterSpec, count: int, seed: int = 0) -> torch.Tensor:
    """Noise, float32 [count, 3, S, S]."""
    return torch.randn(count, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(seed))


def run(
    backend: Backend[Any], sets: Sequence[AdapterSet], x: torch.Tensor, tasks: tuple[Task, ...]
) -> list[dict[Task, torch.Tensor]]:
    """One image for each set, grouped as the engine groups them."""
    prepared = {id(s): backend.prepare(s) for s in sets}
    queries = [Query(prepared[id(s)], pixels, tasks) for s, pixels in zip(sets, x, strict=True)]
    groups: dict[Any, list[int]] = {}
    for i, query in enumerate(queries):
        groups.setdefault(backend.group(query), []).append(i)
    results: dict[int, dict[Task, torch.Tensor]] = {}
    for positions in groups.values():
        results |= zip(positions, backend.forward([queries[p] for p in positions]), strict=True)
    return [results[i] for i in range(len(queries))]


def assert_same(
    ours: Sequence[dict[Task, torch.Tensor]], expected: Sequence[dict[Task, torch.Tensor]], share: float = TOLERANCE
) -> None:
    """Equal up to a share of the largest logit, on the CPU, float32."""
    for here, there in zip(ours, expected, strict=True):
        assert list(here) == list(there)
        for task, logits in here.items():
            assert logits.shape == there[task].shape and logits.dtype is torch.float32
            assert logits.device.type == "cpu"
            assert (logits - there[task]).abs().max() <= share * there[task].abs().max(), task
