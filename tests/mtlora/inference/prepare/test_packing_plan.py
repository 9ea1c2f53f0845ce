"""Sets folded by the kernel's moves: every type of number, every kind of move, on every instruction set."""

from dataclasses import replace

import pytest
import torch

from mtlora.inference import Query, ReferenceBackend
from mtlora.inference.backends.cpu import CpuBackend
from mtlora.inference.forward.fused_blocks import FusedBlock
from mtlora.inference.prepare import packing_plan
from mtlora.kernels import kernels
from mtlora.kernels.interface import MAX_DOTS
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.weights.adapter_file import AdapterSet
from testing.equality import assert_same, images, make_set, run
from testing.factories import adapter_spec, make_backbone

pytestmark = pytest.mark.usefixtures("instruction_set")


def ranked(spec: AdapterSpec, *ranks: int) -> AdapterSpec:
    """The spec with one rank for all stages of each task in turn."""
    tasks = tuple(t.model_copy(update={"ranks": (r,) * 4}) for t, r in zip(spec.tasks, ranks, strict=False))
    return spec.model_copy(update={"tasks": tasks})


def converted(adapter: AdapterSet, *dtypes: torch.dtype) -> AdapterSet:
    """The set with its tensors stored in these types in turn."""
    names = list(adapter.tensors)
    return replace(adapter, tensors={n: adapter.tensors[n].to(dtypes[i % len(dtypes)]) for i, n in enumerate(names)})


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize(
    "dtypes",
    [(torch.float16,), (torch.bfloat16,), (torch.float32, torch.float16, torch.bfloat16)],
    ids=["half", "bfloat", "mixed"],
)
def test_stored_numbers_are_read_exactly(
    dtypes: tuple[torch.dtype, ...], merge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_plan, "room_for", torch.zeros)  # gaps between what is aligned are never written
    backbone, spec = make_backbone(), adapter_spec()
    stored = converted(make_set(backbone, spec), *dtypes)
    for tensor in stored.tensors.values():  # zeros of both signs, the smallest denormal, the largest number
        tensor.view(-1)[0] = -0.0
    stored.tensors["backbone.layers.0.blocks.0.norm1.bias"][1:4] = torch.tensor([6e-8, -5e-6, 65504.0])
    floats = converted(stored, torch.float32)
    form = CpuBackend(backbone, merge=merge)
    here, there = (form.prepare(adapter) for adapter in (stored, floats))
    for ours, theirs in zip(here.encoder.stages, there.encoder.stages, strict=True):
        for mine, other in zip(ours.blocks, theirs.blocks, strict=True):
            assert isinstance(mine, FusedBlock) == (kernels() is not None)
            if isinstance(mine, FusedBlock):
                assert torch.equal(mine.tensors[0].view(torch.int32), other.tensors[0].view(torch.int32))


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("mode", [SharedMode.MATRIX, SharedMode.MATRIX_V2])
@pytest.mark.parametrize("ranks", [(1, 3, 0, 2), (MAX_DOTS + 1, 4, 0, 1), (0, 0, 0, 0)], ids=str)
def test_tasks_of_unequal_ranks(mode: SharedMode, ranks: tuple[int, ...], merge: bool) -> None:
    backbone, spec = make_backbone(), ranked(adapter_spec(mode=mode), *ranks)
    sets = [make_set(backbone, spec, seed=seed) for seed in (1, 2)]
    expected = run(ReferenceBackend(backbone), sets, images(spec, 2), spec.task_names)
    assert_same(run(CpuBackend(backbone, merge=merge), sets, images(spec, 2), spec.task_names), expected)


def test_a_set_has_memory_of_its_own() -> None:
    backbone, spec = make_backbone(), adapter_spec()
    form, adapter = CpuBackend(backbone, merge=True), make_set(backbone, spec)
    pixels = images(spec, 1)
    before = run(form, [adapter], pixels, spec.task_names)
    prepared, other = form.prepare(adapter), form.prepare(make_set(backbone, spec, seed=2))
    for tensor in adapter.tensors.values():
        tensor.zero_()  # the file's bytes may go
    with torch.inference_mode():
        for block in other.encoder.stages[0].blocks:
            if isinstance(block, FusedBlock):
                block.tensors[0].zero_()
    assert_same(form.forward([Query(prepared, pixels[0], spec.task_names)]), before)
