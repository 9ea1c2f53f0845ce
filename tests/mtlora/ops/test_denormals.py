"""Denormal numbers count as zero in every thread that computes, and in every form; what is not denormal stays."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mtlora.inference import Backend, ReferenceBackend
from mtlora.inference.backends.cpu import CpuBackend
from mtlora.inference.forward.fused_blocks import FusedBlock
from mtlora.inference.prepare import packing_plan
from mtlora.kernels import kernels
from mtlora.ops.denormals import are_zero, denormals_are_zero
from mtlora.vocabulary.options import Precision
from mtlora.weights.adapter_file import AdapterSet
from mtlora.weights.backbone import Backbone
from testing.equality import images, make_set, run
from testing.factories import adapter_spec, make_backbone

SMALLEST_NORMAL = torch.finfo(torch.float32).tiny

FORMS: dict[str, Callable[[Backbone], Backend[Any]]] = {
    "merged": lambda backbone: CpuBackend(backbone, merge=True),
    "lowrank": lambda backbone: CpuBackend(backbone, merge=False),
    "integers": lambda backbone: CpuBackend(backbone, merge=True, precision=Precision.INT8),
    "plain": ReferenceBackend,
}


def has_denormals(x: torch.Tensor) -> bool:
    """By the bits: a comparison would count them as zero where they are."""
    bits = x.contiguous().view(torch.int32) & 0x7FFFFFFF
    return bool(((bits > 0) & (bits < 0x00800000)).any())


def filled(adapter: AdapterSet, value: float, dtype: torch.dtype = torch.float32) -> AdapterSet:
    """The set with one value everywhere but in the variances, of which a decoder takes roots."""
    tensors = {
        name: tensor if "running_var" in name else torch.full_like(tensor, value, dtype=dtype)
        for name, tensor in adapter.tensors.items()
    }
    return replace(adapter, tensors=tensors)


def form_and_set(name: str) -> tuple[Backend[Any], AdapterSet]:
    backbone: Backbone = make_backbone()
    return FORMS[name](backbone), make_set(backbone, adapter_spec())


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("value", [1e-41, -9e-39])
def test_a_set_of_denormal_weights_answers_as_one_of_zeros(name: str, value: float) -> None:
    backend, adapter = form_and_set(name)
    spec = adapter.manifest.spec
    tiny, zero = (run(backend, [filled(adapter, v)], images(spec, 1), spec.task_names)[0] for v in (value, 0.0))
    for task in spec.task_names:
        torch.testing.assert_close(tiny[task], zero[task], rtol=0, atol=0)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("value", [1e-20, 1e-30, 2e-38])
def test_what_becomes_denormal_on_the_way_is_zero(name: str, value: float) -> None:
    backend, adapter = form_and_set(name)
    spec = adapter.manifest.spec
    answer = run(backend, [filled(adapter, value)], images(spec, 1), spec.task_names)[0]
    assert not any(has_denormals(scores) or scores.isnan().any() for scores in answer.values())
    assert not are_zero()  # the caller's own mode is as before


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folding_leaves_no_denormal_numbers(merge: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels() is None:
        pytest.skip("torch copies tensors as they are: they count as zero when they are read")
    monkeypatch.setattr(packing_plan, "room_for", torch.zeros)  # gaps between what is aligned are never written
    backbone = make_backbone()
    prepared = CpuBackend(backbone, merge=merge).prepare(filled(make_set(backbone, adapter_spec()), 9e-39, dtype))
    blocks = [block for stage in prepared.encoder.stages for block in stage.blocks]
    assert blocks
    for block in blocks:
        assert isinstance(block, FusedBlock)
        assert not has_denormals(block.tensors[0])


def test_halves_keep_their_values_those_that_are_denormal_as_halves_too() -> None:
    halves = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    before = halves.to(torch.float32)
    with denormals_are_zero():
        within = halves.to(torch.float32)
    assert torch.equal(within.view(torch.int32)[before.isfinite()], before.view(torch.int32)[before.isfinite()])
    assert 0 < float(before[before > 0].min()) < 1e-7


def test_the_mode_is_as_before_behind_it() -> None:
    assert not are_zero()
    with pytest.raises(KeyError), denormals_are_zero():
        assert are_zero()
        with denormals_are_zero():
            pass
        assert are_zero()
        raise KeyError("an error leaves it too")
    assert not are_zero()


THREADS = """
import torch
from mtlora.ops import ops
from mtlora.ops.denormals import are_zero, denormals_are_zero
from mtlora.kernels import status

torch.set_num_threads(3)
tiny = torch.full((3000, 1000), 1e-39)

def parts():
    # every thread has a part; by the bits: a comparison would count what is tiny as zero
    return [bool(part.any()) for part in (tiny * 0.5).view(torch.int32).chunk(30)]

assert all(parts()), "the threads have started, none flushes"
with denormals_are_zero():
    assert not any(parts()), "all flush, whoever started them"
assert all(parts()), "none flushes"
torch.set_flush_denormal(True)
assert any(parts()), "torch sets the calling thread alone"
with denormals_are_zero():
    assert not any(parts())
assert are_zero(), "it was set before"
torch.set_flush_denormal(False)
if status().threads:
    x = ops.gelu_(tiny.clone(), None)
    assert not x.view(torch.int32).any(), "the kernels flush by themselves, in every thread"
    assert not are_zero()
print("done")
"""


def test_all_threads_of_a_pool_flush_and_are_left_as_they_were() -> None:
    """In a process of its own, with threads that began before."""
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "done\n", done.stderr
