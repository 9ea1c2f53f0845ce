"""What runs on a GPU against the plain form on the CPU: the same numbers, whatever shares a batch.

Where there is no GPU the same code runs on the CPU, all at once as there; only recording a pass is left out.
"""

import gc
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.sets import random_set
from mtlora.inference import Backend, Query, ReferenceBackend, make_backend
from mtlora.inference.backends.cuda import CudaBackend
from mtlora.inference.forward import batched_ops
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import Backbone
from testing.equality import SPEC_CHANGES, assert_same, images, make_set, name_changes, run
from testing.examples import examples
from testing.factories import adapter_spec, backbone_spec, make_backbone
from testing.strategies import adapter_specs

HAS_GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="no GPU: torch.cuda.is_available() is False")

FOLDED = (FormKind.LOWRANK, FormKind.MERGED)
KINDS = (*FOLDED, FormKind.PLAIN) if HAS_GPU else FOLDED
TIMES = 3  # the second time a pass is recorded, the third replayed
BFLOAT16_SHARE = 0.05  # of the largest logit; where a processor rounds between products, and how often, is its own


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_ops, "takes_turns", lambda _: False)


def on_device(backbone: Backbone, kind: FormKind, precision: Precision = Precision.FLOAT32) -> Backend[Any]:
    """The form that a GPU gets, there or here."""
    if HAS_GPU:
        return make_backend(backbone.to("cuda"), kind, precision=precision)
    return CudaBackend(backbone, merge=kind is FormKind.MERGED, precision=precision)


@pytest.mark.parametrize("mode", SharedMode)
@pytest.mark.parametrize("changes", SPEC_CHANGES, ids=name_changes)
def test_equals_the_plain_form(mode: SharedMode, changes: dict[str, Any]) -> None:
    backbone, spec = make_backbone(), adapter_spec(mode=mode, **changes)
    sets = [make_set(backbone, spec)] * 2
    expected = run(ReferenceBackend(backbone), sets, images(spec, 2), spec.task_names)
    for kind in KINDS:
        backend = on_device(backbone, kind)
        for tasks in (spec.task_names, (Task.SALIENCY, Task.SEMSEG)):
            ours = run(backend, sets, images(spec, 2), tasks)
            assert_same(ours, [{task: logits[task] for task in tasks} for logits in expected])


@given(spec=adapter_specs(), data=st.data(), kind=st.sampled_from(KINDS), count=st.integers(1, 3))
@settings(
    max_examples=examples(40 if HAS_GPU else 15),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
)
def test_any_spec_equals_the_plain_form(spec: AdapterSpec, data: st.DataObject, kind: FormKind, count: int) -> None:
    """Every decoder, mode and subset of tasks, several sets in one batch."""
    backbone = make_backbone(spec.backbone, image_size=spec.image_size)
    sets = [make_set(backbone, spec, seed=seed) for seed in range(count)]
    tasks = tuple(data.draw(st.lists(st.sampled_from(spec.task_names), min_size=1, unique=True)))
    x = images(spec, count)
    backend = on_device(backbone, kind)
    assert_same(run(backend, sets, x, tasks), run(ReferenceBackend(backbone), sets, x, tasks))
    assert backend.device_bytes(spec) == backend.prepare(sets[0]).cost_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_shape_equals_the_plain_form(kind: FormKind) -> None:
    """As wide as Swin-T: products large enough that reduced precision (TF32) would show."""
    shape = backbone_spec(embed_dim=96, depths=(2, 2, 2, 2), num_heads=(3, 6, 12, 24), window_size=7)
    backbone = make_backbone(shape, image_size=224)
    spec = adapter_spec(shape, image_size=224, ranks=(64,) * 4, decoder_channels=(18, 36, 72, 144))
    sets = [random_set(backbone, spec, seed) for seed in (1, 2)]
    x = images(spec, 2)
    expected = run(ReferenceBackend(backbone), sets, x, spec.task_names)
    assert_same(run(on_device(backbone, kind), sets, x, spec.task_names), expected)


@pytest.mark.parametrize("mode", SharedMode)
@pytest.mark.parametrize("kind", FOLDED)
def test_a_mixed_batch_answers_as_each_image_alone(mode: SharedMode, kind: FormKind) -> None:
    """Each shape of batch three times with other sets and images: run, recorded, replayed."""
    backbone, spec = make_backbone(), adapter_spec(mode=mode)
    sets = [make_set(backbone, spec, seed=seed) for seed in range(5)]
    backend = on_device(backbone, kind)
    for seed in range(TIMES):
        batch, x = [sets[(i + seed) % 5] for i in (0, 1, 0, 2, 3, 4, 4)], images(spec, 7, seed)
        expected = run(ReferenceBackend(backbone), batch, x, spec.task_names)
        for tasks in (spec.task_names, (Task.NORMALS, Task.SEMSEG)):
            wanted = [{task: logits[task] for task in tasks} for logits in expected]
            assert_same(run(backend, batch, x, tasks), wanted)
            assert_same(run(backend, batch[:1] * 3, x[[0, 0, 0]], tasks), wanted[:1] * 3)
            assert_same([run(backend, [s], x[i : i + 1], tasks)[0] for i, s in enumerate(batch)], wanted)


def test_answers_stay_when_the_next_batch_runs() -> None:
    """What a replay writes to is written to again by the next."""
    backbone, spec = make_backbone(), adapter_spec()
    adapter, backend = make_set(backbone, spec), on_device(backbone, FormKind.LOWRANK)
    resident, x = backend.prepare(adapter), images(spec, 2 * TIMES)
    answers = [backend.forward([Query(resident, pixels, spec.task_names)])[0] for pixels in x]
    assert_same(answers, run(ReferenceBackend(backbone), [adapter] * len(x), x, spec.task_names))


def test_more_shapes_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlora.inference.forward.graphs.KEPT", 2)
    backbone, spec = make_backbone(), adapter_spec()
    adapter, backend = make_set(backbone, spec), on_device(backbone, FormKind.LOWRANK)
    expected = run(ReferenceBackend(backbone), [adapter] * 5, images(spec, 5), spec.task_names)
    for count in (1, 2, 1, 2, 1, 3, 4, 5, 3, 3, 3, 1, 1, 1):
        ours = run(backend, [adapter] * count, images(spec, 5)[:count], spec.task_names)
        assert_same(ours, expected[:count])


@pytest.mark.parametrize("kind", FOLDED)
def test_bfloat16_is_near(kind: FormKind) -> None:
    shape = backbone_spec(embed_dim=32, num_heads=(1, 2, 4, 8))
    backbone = make_backbone(shape)
    spec = adapter_spec(shape, decoder_channels=(18, 36, 72, 144))
    sets, x = [random_set(backbone, spec, seed) for seed in (1, 2)], images(spec, 2)
    backend = on_device(backbone, kind, Precision.BFLOAT16)
    ours = run(backend, sets, x, spec.task_names)
    assert_same(ours, run(ReferenceBackend(backbone), sets, x, spec.task_names), BFLOAT16_SHARE)
    assert backend.device_bytes(spec) == on_device(backbone, kind).device_bytes(spec) // 2


@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_sets_take_what_they_cost_and_give_it_back(kind: FormKind) -> None:
    shape = backbone_spec(embed_dim=32, num_heads=(1, 2, 2, 4))
    backbone = make_backbone(shape)
    spec = adapter_spec(shape)
    backend, sets = on_device(backbone, kind), [make_set(backbone, spec, seed=seed) for seed in range(4)]
    x = images(spec, 1)
    for adapter in sets[:TIMES]:
        run(backend, [adapter], x, spec.task_names)  # what is kept once for all sets is there now
    gc.collect()
    before = torch.cuda.memory_allocated()
    residents = [backend.prepare(adapter) for adapter in sets]
    gc.collect()
    grown = torch.cuda.memory_allocated() - before
    rounding = 512 * (len(sets[0].tensors) if kind is FormKind.PLAIN else 1)
    for resident in residents:
        assert resident.cost_bytes == backend.device_bytes(spec)
    assert len(sets) * residents[0].cost_bytes <= grown <= len(sets) * (residents[0].cost_bytes + rounding)
    backend.forward([Query(residents[0], x[0], spec.task_names)])
    del residents, resident
    gc.collect()
    assert torch.cuda.memory_allocated() <= before


@needs_gpu
def test_a_pass_that_cannot_be_recorded_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a value back ends a recording; what runs afterwards, random numbers too, is none the worse for it."""
    backbone, spec = make_backbone(), adapter_spec()
    adapter, backend = make_set(backbone, spec), on_device(backbone, FormKind.LOWRANK)
    attend = batched_ops.window_attention

    def reads_back(qkv: torch.Tensor, *rest: Any) -> torch.Tensor:
        assert qkv.isfinite().all().item()
        return attend(qkv, *rest)

    monkeypatch.setattr(batched_ops, "window_attention", reads_back)
    x = images(spec, 1)
    expected = run(ReferenceBackend(backbone), [adapter], x, spec.task_names)
    for _ in range(TIMES + 1):
        assert_same(run(backend, [adapter], x, spec.task_names), expected)
    assert torch.randn(4, device="cuda").isfinite().all()
    monkeypatch.undo()
    assert_same(run(on_device(backbone, FormKind.LOWRANK), [adapter] * 2, x[[0, 0]], spec.task_names), expected * 2)


def test_warming_up_changes_no_answer() -> None:
    backbone, spec = make_backbone(), adapter_spec()
    adapter, backend = make_set(backbone, spec), on_device(backbone, FormKind.LOWRANK)
    backend.warm(backend.prepare(adapter), 5)
    x = images(spec, 7)
    assert_same(
        run(backend, [adapter] * 7, x, spec.task_names),
        run(ReferenceBackend(backbone), [adapter] * 7, x, spec.task_names),
    )


@needs_gpu
def test_what_is_not_for_a_gpu_is_refused() -> None:
    with pytest.raises(MTLoRAError, match="precision int8 needs a CPU"):
        make_backend(make_backbone().to("cuda"), precision=Precision.INT8)
    with pytest.raises(MTLoRAError, match="precision bfloat16 needs a GPU and form merged or lowrank"):
        make_backend(make_backbone().to("cuda"), FormKind.PLAIN, precision=Precision.BFLOAT16)


def test_bfloat16_is_not_for_a_cpu() -> None:
    with pytest.raises(MTLoRAError, match="precision bfloat16 needs a GPU and form merged or lowrank, got cpu"):
        make_backend(make_backbone(), precision=Precision.BFLOAT16)
