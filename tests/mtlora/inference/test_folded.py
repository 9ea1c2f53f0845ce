"""Folded forms against the plain form: every spec, every way of batching, the recordings of the published code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mtlora.adapter_file import AdapterSet
from mtlora.adapter_file.manifest import AdapterManifest
from mtlora.backbone import Backbone
from mtlora.convert import convert_checkpoint
from mtlora.inference import Form, PlainForm, Query
from mtlora.inference.folded import FoldedForm
from mtlora.inference.layers import tensors_of
from mtlora.spec import AdapterSpec, DecoderKind, SharedMode, TaskSpec
from mtlora.tasks import TRAITS, Task
from tests.factories import adapter_spec, make_backbone, make_model
from tests.mtlora.strategies import adapter_specs

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
TOLERANCE = 1e-4  # of the largest absolute logit; forms differ in the order of float32 sums only


def make_set(backbone: Backbone, spec: AdapterSpec, *, seed: int = 1, dtype: torch.dtype = torch.float32) -> AdapterSet:
    tensors = {n: t.to(dtype) for n, t in make_model(backbone, spec, seed=seed).adapter_tensors().items()}
    manifest = AdapterManifest(spec=spec, backbone_name="test", backbone_fingerprint=backbone.fingerprint(spec))
    return AdapterSet(manifest, tensors, "0" * 64, 0)


def images(spec: AdapterSpec, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(seed))


def run(form: Form[Any], sets: Sequence[AdapterSet], x: torch.Tensor, tasks: tuple[Task, ...]) -> list[dict[Task, Any]]:
    prepared = {id(s): form.prepare(s) for s in sets}
    queries = [Query(prepared[id(s)], pixels, tasks) for s, pixels in zip(sets, x, strict=True)]
    groups: dict[Any, list[int]] = {}
    for i, query in enumerate(queries):
        groups.setdefault(form.group(query), []).append(i)
    results: dict[int, dict[Task, Any]] = {}
    for positions in groups.values():
        results |= zip(positions, form.forward([queries[p] for p in positions]), strict=True)
    return [results[i] for i in range(len(queries))]


def assert_same(ours: Sequence[dict[Task, Any]], expected: Sequence[dict[Task, Any]]) -> None:
    for here, there in zip(ours, expected, strict=True):
        assert list(here) == list(there)
        for task, logits in here.items():
            assert logits.shape == there[task].shape and logits.dtype is torch.float32
            assert (logits - there[task]).abs().max() <= TOLERANCE * there[task].abs().max(), task


@pytest.fixture(params=[True, False], ids=["merged", "lowrank"])
def merge(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("mode", SharedMode)
@pytest.mark.parametrize(
    "changes",
    [
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
    ],
    ids=lambda changes: ",".join(changes) or "all",
)
def test_equals_the_plain_form(mode: SharedMode, changes: dict[str, Any], merge: bool) -> None:
    backbone, spec = make_backbone(), adapter_spec(mode=mode, **changes)
    sets = [make_set(backbone, spec)] * 2
    for tasks in (spec.task_names, (Task.SALIENCY, Task.SEMSEG)):
        assert_same(
            run(FoldedForm(backbone, merge=merge), sets, images(spec, 2), tasks),
            run(PlainForm(backbone), sets, images(spec, 2), tasks),
        )


@given(spec=adapter_specs(), data=st.data(), merge=st.booleans())
@settings(max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate], deadline=None)
def test_any_spec_equals_the_plain_form(spec: AdapterSpec, data: st.DataObject, merge: bool) -> None:
    backbone = make_backbone(spec.backbone, image_size=spec.image_size)
    adapter = make_set(backbone, spec)
    tasks = tuple(data.draw(st.lists(st.sampled_from(spec.task_names), min_size=1, unique=True)))
    form = FoldedForm(backbone, merge=merge)
    assert_same(
        run(form, [adapter], images(spec, 1), tasks), run(PlainForm(backbone), [adapter], images(spec, 1), tasks)
    )
    assert form.device_bytes(spec) == form.prepare(adapter).cost_bytes
