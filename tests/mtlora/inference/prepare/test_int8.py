"""8-bit linear layers: right integers on every instruction set, and maps of the bundled set stay what they are."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtlora.images.opening import open_photo
from mtlora.inference import Backend, Query, make_backend
from mtlora.inference.backends.cpu import CpuBackend
from mtlora.inference.forward.block import run_block
from mtlora.inference.forward.fused_blocks import FusedBlock, Region, fuse, packer
from mtlora.inference.forward.windows import stage_windows
from mtlora.inference.prepare.int8 import LARGEST_INPUT, LARGEST_WEIGHT, integer_weight, to_integers
from mtlora.inference.prepare.layers import Block, Linear, Norm
from mtlora.kernels import kernels, library
from mtlora.maps.postprocessing import decode_coarse
from mtlora.ops.preprocess import preprocess
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.vocabulary.spec import SharedMode
from mtlora.vocabulary.tasks import TRAITS, Decode, Task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone
from mtlora.weights.bundled import bundled_backbone, find_adapter
from testing.equality import images, make_set, run
from testing.factories import adapter_spec, make_backbone
from testing.paths import SAMPLES

ROUNDING = 0.4  # root mean square beside that of the logits; networks of width 8 with random weights round badly
DIFFERENT_ORDER = (
    0.15  # the same, between ways to compute the same: float32 sums in another order round to other integers
)
LEAST_AGREEMENT = 0.985  # share of pixels with the same class
MOST_SALIENCY = 0.01  # mean difference
MOST_ANGLE_DEG = 1.0  # mean angle between normals


@pytest.fixture(autouse=True, scope="module", params=["0", *library.INSTRUCTION_SETS])
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.VARIABLE, request.param)
        if request.param != "0" and library.kernels() is None:
            pytest.skip(library.status().reason)
        yield request.param


@given(
    seed=st.integers(0, 2**31),
    items=st.integers(1, 3),
    own=st.booleans(),
    tokens=st.integers(1, 9),
    inputs=st.sampled_from([1, 4, 7, 48, 130]),
    outputs=st.sampled_from([1, 5, 64, 96]),
)
def test_product(seed: int, items: int, own: bool, tokens: int, inputs: int, outputs: int) -> None:
    """Close to the product of floats, and exactly that of what was rounded."""
    torch.manual_seed(seed)
    x, bias = torch.randn(items, tokens, inputs), torch.randn(outputs)
    matrix = torch.randn(*((items,) if own else ()), outputs, inputs)
    weight = integer_weight(matrix)
    assert int(weight.values.abs().max()) <= LARGEST_WEIGHT
    rounded, scale = to_integers(x, LARGEST_INPUT)
    assert float((rounded * scale - x).abs().max()) <= float(scale.max()) / 2 * 1.001
    expected = (rounded * scale).double() @ (weight.values * weight.scale[..., None]).double().mT + bias.double()
    torch.testing.assert_close(weight.product(x, bias).double(), expected, rtol=0, atol=1e-5 * max(1, inputs**0.5))


def test_zeros_stay_zeros() -> None:
    weight = integer_weight(torch.zeros(3, 5))
    assert torch.equal(weight.product(torch.zeros(1, 2, 5), torch.ones(3)), torch.ones(1, 2, 3))


def block_of(width: int, hidden: int, weight: float, bias: float) -> Block:
    """No attention to speak of; every hidden unit is `bias`, every weight of fc2 is `weight`."""
    norm, zero = Norm(torch.ones(width), torch.zeros(width)), torch.zeros
    return Block(
        norm1=norm,
        qkv=Linear(zero(3 * width, width), zero(3 * width)),
        position=zero(1, 1, 1, 4, 4),
        proj=Linear(zero(width, width), zero(width)),
        norm2=norm,
        fc1=Linear(zero(hidden, width), torch.full((hidden,), bias)),
        fc2=Linear(torch.full((width, hidden), weight), zero(width)),
    )


@pytest.mark.parametrize("hidden", [4, 36, 1024])
@pytest.mark.parametrize("weight", [1.0, -0.5])
def test_the_largest_integers_do_not_overflow(hidden: int, weight: float) -> None:
    """All inputs and all weights at their largest: sums of neighbours must not be cut off at 16 bits."""
    width, x = 9, torch.randn(1, 4, 9)
    block, native = block_of(width, hidden, weight, 1.0), kernels()
    expected = x + hidden * weight * functional.gelu(torch.tensor(1.0))
    if native is None:
        result = run_block(block.with_weights(integer_weight), x.clone(), block.position[0], 1).shared
    else:
        pack = packer(native, Precision.INT8)
        fused = fuse(block, 1, native, pack, pack)
        assert isinstance(fused, FusedBlock)
        result = x.clone()
        fused.run(result, Region(stage_windows(2, 2, 0, torch.device("cpu")).plain), None)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "lowrank"])
@pytest.mark.parametrize("mode", SharedMode)
def test_near_float32_in_every_mode_and_form(
    mode: SharedMode, merge: bool, instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of two sets; what a set costs is known beforehand, and it is less."""
    backbone, spec = make_backbone(), adapter_spec(mode=mode)
    sets = [make_set(backbone, spec, seed=seed) for seed in (1, 1, 2)]
    exact = CpuBackend(backbone, merge=merge)
    rounded = CpuBackend(backbone, merge=merge, precision=Precision.INT8)
    x = images(spec, 3)
    monkeypatch.setenv(library.VARIABLE, "0")
    plainly = run(CpuBackend(backbone, merge=merge, precision=Precision.INT8), sets, x, spec.task_names)
    monkeypatch.setenv(library.VARIABLE, instructions)
    for ours, floats, integers in zip(
        *(run(backend, sets, x, spec.task_names) for backend in (rounded, exact)), plainly, strict=True
    ):
        for task, logits in ours.items():
            assert 0 < _error(logits, floats[task]) <= ROUNDING, task
            assert _error(logits, integers[task]) <= DIFFERENT_ORDER, task
    assert rounded.device_bytes(spec) == rounded.prepare(sets[0]).cost_bytes
    if merge:
        assert rounded.device_bytes(spec) < exact.device_bytes(spec)


def _error(ours: Tensor, expected: Tensor) -> float:
    return float(((ours - expected).square().mean() / expected.square().mean()).sqrt())


@pytest.mark.parametrize("kind", [FormKind.MERGED, FormKind.LOWRANK])
def test_maps_of_the_bundled_set_hardly_change(kind: FormKind) -> None:
    backbone, adapter = load_backbone(bundled_backbone()), load_adapter(find_adapter("default"))
    spec = adapter.manifest.spec
    photos = [preprocess(open_photo(SAMPLES / f"{name}.jpg"), spec) for name in ("astronaut", "coffee")]
    exact, rounded = (
        _logits(make_backend(backbone, kind, precision=precision), adapter, photos)
        for precision in (Precision.FLOAT32, Precision.INT8)
    )
    for task in spec.task_names:
        for ours, expected in zip(rounded, exact, strict=True):
            _same_map(task, *(decode_coarse(task, logits[task], spec.image_size) for logits in (ours, expected)))


def _logits(backend: Backend[Any], adapter: object, photos: list[Tensor]) -> list[dict[Task, Tensor]]:
    resident = backend.prepare(adapter)  # type: ignore[arg-type]
    return backend.forward([Query(resident, photo, resident.spec.task_names) for photo in photos])


def _same_map(task: Task, ours: Tensor, expected: Tensor) -> None:
    match TRAITS[task].decode:
        case Decode.ARGMAX:
            assert (ours == expected).float().mean() >= LEAST_AGREEMENT, task
        case Decode.UNIT_VECTOR:
            cosine = (ours * expected).sum(0).clamp(-1, 1)
            assert torch.rad2deg(torch.acos(cosine)).mean() <= MOST_ANGLE_DEG
        case _:
            assert (ours - expected).abs().mean() <= MOST_SALIENCY, task


def test_wants_a_cpu_and_a_form_that_can() -> None:
    with pytest.raises(MTLoRAError, match="int8 needs a CPU and form merged or lowrank, got cpu, form plain"):
        make_backend(make_backbone(), FormKind.PLAIN, precision=Precision.INT8)
