"""Folded forms against the plain form: every spec, every way of batching, the recordings of the published code."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mtlora.inference import Query, ReferenceBackend
from mtlora.inference.backends.cpu import CpuBackend
from mtlora.inference.prepare.layers import tensors_of
from mtlora.kernels import kernels, status
from mtlora.maps.postprocessing import at_model_size
from mtlora.vocabulary.adapted_linears import adapted_linears
from mtlora.vocabulary.errors import AdapterMismatchError, MTLoRAError
from mtlora.vocabulary.spec import AdapterSpec, SharedMode, TaskSpec
from mtlora.vocabulary.tasks import TRAITS, Task
from mtlora.weights.adapter_file import AdapterSet
from mtlora.weights.adapter_file.manifest import AdapterManifest
from mtlora.weights.convert import convert_checkpoint
from testing.equality import SPEC_CHANGES, TOLERANCE, assert_same, images, make_set, name_changes, run
from testing.examples import examples
from testing.factories import adapter_spec, backbone_spec, make_backbone
from testing.paths import GOLDEN
from testing.strategies import adapter_specs


@pytest.fixture(autouse=True, params=["native", "torch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds with native blocks, where they are built, and without."""
    if request.param == "torch":
        monkeypatch.setenv("MTLORA_NATIVE", "0")
    elif kernels() is None:
        pytest.skip(f"no native code: {status().reason}")


@pytest.fixture(params=[True, False], ids=["merged", "lowrank"])
def merge(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("mode", SharedMode)
@pytest.mark.parametrize("changes", SPEC_CHANGES, ids=name_changes)
def test_equals_the_plain_form(mode: SharedMode, changes: dict[str, Any]) -> None:
    backbone, spec = make_backbone(), adapter_spec(mode=mode, **changes)
    sets = [make_set(backbone, spec)] * 2
    expected = run(ReferenceBackend(backbone), sets, images(spec, 2), spec.task_names)
    for merge in (True, False):
        form = CpuBackend(backbone, merge=merge)
        for tasks in (spec.task_names, (Task.SALIENCY, Task.SEMSEG)):
            ours = run(form, sets, images(spec, 2), tasks)
            assert_same(ours, [{task: logits[task] for task in tasks} for logits in expected])


@given(spec=adapter_specs(), data=st.data(), merge=st.booleans())
@settings(
    max_examples=examples(10),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
)
def test_any_spec_equals_the_plain_form(spec: AdapterSpec, data: st.DataObject, merge: bool) -> None:
    backbone = make_backbone(spec.backbone, image_size=spec.image_size)
    adapter = make_set(backbone, spec)
    tasks = tuple(data.draw(st.lists(st.sampled_from(spec.task_names), min_size=1, unique=True)))
    form = CpuBackend(backbone, merge=merge)
    assert_same(
        run(form, [adapter], images(spec, 1), tasks), run(ReferenceBackend(backbone), [adapter], images(spec, 1), tasks)
    )
    assert form.device_bytes(spec) == form.prepare(adapter).cost_bytes


RANKS = [
    {"attn.proj": 1, "mlp.fc1": 6, "mlp.fc2": 1},
    {"attn.proj": 6, "mlp.fc1": 1, "mlp.fc2": 5},
    {"attn.proj": 0, "mlp.fc1": 5, "mlp.fc2": 20},
    {"attn.proj": 20, "mlp.fc1": 0, "mlp.fc2": 1},
    {"attn.qkv": 0, "attn.proj": 5, "mlp.fc1": 17, "mlp.fc2": 0},
]


@pytest.mark.parametrize("mode", [SharedMode.MATRIX, SharedMode.MATRIX_V2, SharedMode.LORA_ONLY])
@pytest.mark.parametrize("ranks", RANKS, ids=str)
def test_ranks_that_differ_within_a_block(mode: SharedMode, ranks: dict[str, int], merge: bool) -> None:
    """The first task has its stage's rank everywhere, the others have the shared pairs' other ranks."""
    backbone, plain = make_backbone(), adapter_spec(mode=mode)
    linears = [linear for linear in adapted_linears(plain) if linear.linear in ranks]
    shared = {linear.name: ranks[linear.linear] for linear in linears}
    own = {linear.name: ranks[linear.linear] for linear in linears if linear.splits}

    def others(ranked: AdapterSpec | TaskSpec, wanted: dict[str, int]) -> dict[str, int]:
        stages = {linear.name: linear.stage for linear in linears}
        return {name: rank for name, rank in wanted.items() if rank != ranked.ranks[stages[name]]}

    first, *rest = plain.tasks
    tasks = (first, *(TaskSpec(**{**dict(task), "linear_ranks": others(task, own)}) for task in rest))
    spec = AdapterSpec(**{**dict(plain), "tasks": tasks, "linear_ranks": others(plain, shared)})
    sets = [make_set(backbone, spec, seed=seed) for seed in (1, 2)]
    expected = run(ReferenceBackend(backbone), sets, images(spec, 2), spec.task_names)
    assert_same(run(CpuBackend(backbone, merge=merge), sets, images(spec, 2), spec.task_names), expected)


@pytest.mark.parametrize("name", ["tiny_w4_r8", "plus_w7_r4"])
def test_recordings_of_the_published_code(name: str, merge: bool) -> None:
    converted = convert_checkpoint(GOLDEN / f"{name}.pth")
    spec, form = converted.spec, CpuBackend(converted.backbone, merge=merge)
    manifest = AdapterManifest(
        spec=spec, backbone_name="golden", backbone_fingerprint=converted.backbone.fingerprint(spec)
    )
    resident = form.prepare(AdapterSet(manifest, converted.tensors, "0" * 64, 0))
    with np.load(GOLDEN / f"{name}.npz") as recorded:
        arrays = dict(recorded)
    (coarse,) = form.forward([Query(resident, torch.from_numpy(arrays["input"][0]), spec.task_names)])
    for task, logits in coarse.items():
        key = TRAITS[task].reference_key
        ours = at_model_size(logits, spec.image_size)[:, 1::4, 2::4].numpy()
        assert np.abs(ours - arrays[f"logits_{key}"][0]).max() <= TOLERANCE * arrays[f"max_logits_{key}"], task


@pytest.mark.parametrize("mode", SharedMode)
def test_different_sets_in_one_batch(mode: SharedMode, merge: bool) -> None:
    """Three sets of one shape, each with norms, patch embedding, merging, biases and decoders of its own."""
    backbone = make_backbone()
    other = adapter_spec(mode=mode, tasks=(Task.DEPTH, Task.EDGE, Task.NORMALS, Task.SEMSEG))
    sets = [make_set(backbone, adapter_spec(mode=mode), seed=seed) for seed in range(3)]
    batch, x = [sets[0], sets[1], sets[0], sets[2]], images(other, 4)
    tasks = (Task.NORMALS, Task.SEMSEG)
    expected = run(ReferenceBackend(backbone), batch, x, tasks)
    assert_same(run(CpuBackend(backbone, merge=merge), batch, x, tasks), expected)
    with_other = run(
        CpuBackend(backbone, merge=merge), [*batch, make_set(backbone, other, seed=5)], images(other, 5), tasks
    )
    assert_same(with_other[:4], run(ReferenceBackend(backbone), batch, images(other, 5)[:4], tasks))


def test_sets_of_one_shape_with_their_tasks_in_another_order(merge: bool) -> None:
    """Their tensors have equal shapes, but each task stands elsewhere among them."""
    backbone = make_backbone()
    orders = ((Task.DEPTH, Task.EDGE, Task.NORMALS, Task.SEMSEG), (Task.SEMSEG, Task.NORMALS, Task.EDGE, Task.DEPTH))
    sets = [make_set(backbone, adapter_spec(tasks=order), seed=seed) for seed, order in enumerate(orders)]
    x, tasks = images(adapter_spec(), 2), (Task.NORMALS, Task.SEMSEG)
    assert_same(run(CpuBackend(backbone, merge=merge), sets, x, tasks), run(ReferenceBackend(backbone), sets, x, tasks))


def test_only_low_rank_sets_share_a_pass() -> None:
    backbone = make_backbone()
    first, second = (make_set(backbone, adapter_spec(), seed=seed) for seed in (1, 2))
    small = make_set(backbone, adapter_spec(ranks=(2, 2, 2, 2)))
    for merge in (True, False):
        form = CpuBackend(backbone, merge=merge)
        residents = [form.prepare(adapter) for adapter in (first, second, small)]
        groups = [form.group(Query(r, torch.zeros(3, 64, 64), (Task.SEMSEG,))) for r in residents]
        assert (groups[0] == groups[1]) is not merge
        assert groups[2] not in groups[:2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cost_is_the_memory_that_is_held(dtype: torch.dtype, merge: bool) -> None:
    """Nothing but what is counted stays: not the file's buffer, not a tensor that was merged."""
    backbone = make_backbone()
    spec = adapter_spec(adapt_reduction=True)
    form = CpuBackend(backbone, merge=merge)
    residents = [form.prepare(make_set(backbone, spec, dtype=dtype, seed=seed)) for seed in (1, 2)]
    held, other = (
        {t.untyped_storage().data_ptr(): t for t in tensors_of((r.encoder, *r.heads.values()))} for r in residents
    )
    frozen = {t.untyped_storage().data_ptr() for t in backbone.tensors.values()}
    alone = sum(t.untyped_storage().nbytes() for pointer, t in held.items() if pointer not in frozen | other.keys())
    assert residents[0].cost_bytes == form.device_bytes(spec) == alone


def test_low_rank_sets_are_smaller() -> None:
    spec = adapter_spec(backbone_spec(embed_dim=32))
    backbone = make_backbone(spec.backbone)
    merged, apart = (CpuBackend(backbone, merge=merge).device_bytes(spec) for merge in (True, False))
    assert apart < merged / 2


def test_refuses_what_does_not_fit(merge: bool) -> None:
    backbone = make_backbone()
    form = CpuBackend(backbone, merge=merge)
    resident = form.prepare(make_set(backbone, adapter_spec()))
    with pytest.raises(MTLoRAError, match=r"input must be \[3, 64, 64\], got \[3, 32, 32\]"):
        form.forward([Query(resident, torch.zeros(3, 32, 32), (Task.SEMSEG,))])
    with pytest.raises(AdapterMismatchError, match="frozen weights"):
        form.prepare(make_set(make_backbone(seed=7), adapter_spec()))


def test_tiles_are_invisible(monkeypatch: pytest.MonkeyPatch, merge: bool) -> None:
    """Tiles of one window, of a stage and a half, of several images: the same answer."""
    backbone, spec = make_backbone(), adapter_spec(image_size=128)
    sets = [make_set(backbone, spec, seed=seed) for seed in (0, 0, 1)]
    sets[1] = sets[0]
    expected = run(ReferenceBackend(backbone), sets, images(spec, 3), spec.task_names)
    for rows in (1, 48, 100, 1500, 10**6):
        monkeypatch.setattr("mtlora.inference.forward.stage.ROWS_AT_ONCE", rows)
        assert_same(run(CpuBackend(backbone, merge=merge), sets, images(spec, 3), spec.task_names), expected)
