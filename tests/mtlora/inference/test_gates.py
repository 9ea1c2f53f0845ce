"""Passes with gates against the slow way to apply them, and against passes without."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mtlora.inference import Backend, Query
from mtlora.inference.backends.cpu import CpuBackend
from mtlora.inference.backends.cuda import CudaBackend
from mtlora.inference.forward import batched_ops
from mtlora.kernels import kernels, status
from mtlora.model.gates import Gates
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.options import Precision
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet
from testing.equality import assert_same, images, make_set
from testing.examples import examples
from testing.factories import adapter_spec, backbone_spec, make_backbone, make_model
from testing.gated import gated_logits, open_gates, random_gates
from testing.strategies import adapter_specs

Logits = dict[Task, torch.Tensor]
SAME_ORDER = 1e-5  # of the largest logit; products of other sizes may add up in another order


@pytest.fixture(autouse=True, params=["native", "torch", "at once"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Native blocks, torch on a CPU, and what runs on a GPU."""
    if request.param != "native":
        monkeypatch.setenv("MTLORA_NATIVE", "0")
    elif kernels() is None:
        pytest.skip(f"no native code: {status().reason}")
    if request.param == "at once":
        monkeypatch.setattr(batched_ops, "takes_turns", lambda _: False)
    return str(request.param)


def backend_of(engine: str, backbone: Any, *, merge: bool, precision: Precision = Precision.FLOAT32) -> Backend[Any]:
    """The form that is tested."""
    return (
        CudaBackend(backbone, merge=merge)
        if engine == "at once"
        else CpuBackend(backbone, merge=merge, precision=precision)
    )


def forward(
    backend: Backend[Any],
    sets: Sequence[AdapterSet],
    x: torch.Tensor,
    tasks: tuple[Task, ...],
    gates: Sequence[Gates | None],
) -> list[Logits]:
    """One image for each set and its gates, in one pass."""
    prepared = {id(s): backend.prepare(s) for s in sets}
    return backend.forward(
        [Query(prepared[id(s)], image, tasks, own) for s, image, own in zip(sets, x, gates, strict=True)]
    )


def expected(
    backbone: Any, spec: AdapterSpec, seeds: Sequence[int], x: torch.Tensor, tasks: Any, gates: Sequence[Gates | None]
) -> list[Logits]:
    """The slow way."""
    with torch.inference_mode():
        return [
            gated_logits(make_model(backbone, spec, seed=seed), image, tasks, own or open_gates(spec))
            for seed, image, own in zip(seeds, x, gates, strict=True)
        ]


def shifting() -> AdapterSpec:
    """Windows that are shifted in stages 0 and 1, each with a last block that is."""
    return adapter_spec(backbone_spec(depths=(2, 2, 2, 1), window_size=2))


@pytest.mark.parametrize("mode", SharedMode)
@pytest.mark.parametrize("merge", [True, False], ids=["merged", "lowrank"])
def test_a_batch_equals_the_slow_way(engine: str, mode: SharedMode, merge: bool) -> None:
    """Images with gates of blocks alone, without gates, and with all kinds; one task more than is asked for."""
    spec = shifting().model_copy(update={"mode": mode})
    backbone = make_backbone(spec.backbone)
    gates = [random_gates(spec, 0, windows=None), None, random_gates(spec, 2)]
    x, tasks = images(spec, 3), spec.task_names[:3]
    adapter = make_set(backbone, spec)
    ours = forward(backend_of(engine, backbone, merge=merge), [adapter] * 3, x, tasks, gates)
    assert_same(ours, expected(backbone, spec, [1] * 3, x, tasks, gates))


@given(spec=adapter_specs(), data=st.data(), merge=st.booleans(), count=st.integers(1, 3), seed=st.integers(0, 999))
@settings(
    max_examples=examples(8),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
)
def test_any_spec_and_gates(
    engine: str, spec: AdapterSpec, data: st.DataObject, merge: bool, count: int, seed: int
) -> None:
    """Every decoder, mode and subset of tasks; from everything closed to everything open; sets mixed in a batch."""
    backbone = make_backbone(spec.backbone, image_size=spec.image_size)
    tasks = tuple(data.draw(st.lists(st.sampled_from(spec.task_names), min_size=1, unique=True)))
    shares = st.sampled_from([0.0, 0.5, 0.8, 2.0])
    drawn = {name: data.draw(shares) for name in ("blocks", "windows", "streams")}
    gates = [random_gates(spec, seed + image, **drawn) for image in range(count)]
    seeds = [1] * count if merge and engine != "at once" else list(range(count))
    sets = {own: make_set(backbone, spec, seed=own) for own in set(seeds)}
    x = images(spec, count)
    ours = forward(backend_of(engine, backbone, merge=merge), [sets[own] for own in seeds], x, tasks, gates)
    assert_same(ours, expected(backbone, spec, seeds, x, tasks, gates))


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8])
@pytest.mark.parametrize("merge", [True, False], ids=["merged", "lowrank"])
def test_open_gates_change_nothing(engine: str, merge: bool, precision: Precision) -> None:
    spec = shifting()
    backbone = make_backbone(spec.backbone)
    backend, adapter, x = (
        backend_of(engine, backbone, merge=merge, precision=precision),
        make_set(backbone, spec),
        images(spec, 2),
    )
    plain = forward(backend, [adapter] * 2, x, spec.task_names, [None] * 2)
    gated = forward(backend, [adapter] * 2, x, spec.task_names, [open_gates(spec), None])
    for here, there in zip(gated, plain, strict=True):
        assert all(torch.equal(here[task], there[task]) for task in spec.task_names)


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8])
def test_an_answer_does_not_depend_on_its_neighbours(engine: str, precision: Precision) -> None:
    spec = shifting()
    backbone = make_backbone(spec.backbone)
    backend, adapter = backend_of(engine, backbone, merge=True, precision=precision), make_set(backbone, spec)
    gates = [None if image == 2 else random_gates(spec, image) for image in range(5)]
    x = images(spec, 5)
    together = forward(backend, [adapter] * 5, x, spec.task_names, gates)
    shuffled = forward(backend, [adapter] * 5, x.flip(0), spec.task_names, gates[::-1])[::-1]
    assert_same(shuffled, together, SAME_ORDER)
    for image in range(5):
        alone = forward(backend, [adapter], x[image : image + 1], spec.task_names, gates[image : image + 1])
        assert_same(alone, together[image : image + 1], SAME_ORDER)


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "lowrank"])
def test_integers_where_gates_are_open_and_nothing_where_they_are_closed(engine: str, merge: bool) -> None:
    """Whole blocks: what is left is a plain int8 pass over fewer blocks, so a set without the others answers alike."""
    if engine == "at once":
        pytest.skip("int8 is for a CPU")
    deep = adapter_spec(backbone_spec(depths=(4, 2, 2, 2), window_size=2))
    flat = adapter_spec(backbone_spec(depths=(2, 2, 2, 2), window_size=2))
    whole = make_backbone(deep.backbone)
    names = {"layers.0.blocks.2.": "layers.0.blocks.0.", "layers.0.blocks.3.": "layers.0.blocks.1."}

    def shortened(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Without the first two blocks of stage 0; the others take their numbers."""
        kept = {n: t for n, t in tensors.items() if "layers.0.blocks.0." not in n and "layers.0.blocks.1." not in n}
        for old, new in names.items():
            kept = {n.replace(old, new): t for n, t in kept.items()}
        return kept

    adapter = make_set(whole, deep)
    half = type(whole)(flat.backbone, shortened(dict(whole.tensors)))
    manifest = make_set(half, flat).manifest
    small = AdapterSet(manifest, shortened(dict(adapter.tensors)), "0" * 64, 0)
    gates = open_gates(deep)
    gates[0].blocks[0, :2] = False
    x = images(deep, 1)
    ours = forward(
        backend_of(engine, whole, merge=merge, precision=Precision.INT8), [adapter], x, deep.task_names, [gates]
    )
    alike = forward(
        backend_of(engine, half, merge=merge, precision=Precision.INT8), [small], x, deep.task_names, [None]
    )
    assert_same(ours, alike, SAME_ORDER)


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "lowrank"])
@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.INT8])
def test_what_a_pass_leaves_behind_reaches_no_other(engine: str, merge: bool, precision: Precision) -> None:
    """Widths that are no whole vectors: what lies behind a row is no number here, left by an image of none."""
    if engine == "at once" and precision is Precision.INT8:
        pytest.skip("int8 is for a CPU")
    spec = adapter_spec(backbone_spec(depths=(2, 2, 2, 2), window_size=2))
    backbone = make_backbone(spec.backbone)
    backend, adapter = backend_of(engine, backbone, merge=merge, precision=precision), make_set(backbone, spec)
    x = images(spec, 1)
    before = forward(backend, [adapter], x, spec.task_names, [None])
    forward(backend, [adapter], torch.full_like(x, torch.nan), spec.task_names, [None])
    after = forward(backend, [adapter], x, spec.task_names, [None])
    for task, logits in before[0].items():
        assert torch.equal(after[0][task], logits)


def test_gates_of_another_shape_are_refused(engine: str) -> None:
    spec = shifting()
    backbone = make_backbone(spec.backbone)
    backend, adapter = backend_of(engine, backbone, merge=True), make_set(backbone, spec)
    good = random_gates(spec, 1)
    x = images(spec, 1)

    def refused(gates: Any, message: str) -> None:
        with pytest.raises(MTLoRAError, match=message):
            forward(backend, [adapter], x, spec.task_names, [gates])

    refused(good[:3], r"gates must be of 4 stages, got 3")
    blocks = good[0]._replace(blocks=torch.ones(1, 3, dtype=torch.bool))
    refused((blocks, *good[1:]), r"blocks of stage 0 must be bool \[1, 2\], got torch.bool \[1, 3\]")
    windows = good[1]._replace(windows=torch.ones(1, 2, 16))
    refused((good[0], windows, *good[2:]), r"windows of stage 1 must be bool \[1, 2, 16\], got torch.float32")
    streams = good[2]._replace(streams={Task.SEMSEG: torch.ones(2, dtype=torch.bool)})
    refused((*good[:2], streams, good[3]), r"gate of semseg in stage 2 must be bool \[1\], got torch.bool \[2\]")
