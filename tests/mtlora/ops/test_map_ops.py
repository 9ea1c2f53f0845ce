"""Photos and maps against the formulas written out in float64, over odd shapes, with every instruction set there is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtlora.maps.postprocessing import class_map
from mtlora.ops import map_ops
from mtlora.vocabulary.errors import MTLoRAError

pytestmark = pytest.mark.usefixtures("instruction_set")

seeds = st.integers(0, 2**31)
sides = {"h": st.integers(1, 20), "w": st.integers(1, 20), "height": st.integers(1, 90), "width": st.integers(1, 90)}


def noise(*shape: int, spread: float = 1.0) -> Tensor:
    return torch.randn(shape) * spread


@given(seed=seeds, classes=st.sampled_from([1, 2, 7, 21, 40, 150]), **sides)
def test_upsample_argmax(seed: int, classes: int, h: int, w: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    logits = noise(classes, h, w)
    scores = functional.interpolate(logits[None].double(), (height, width), mode="bilinear", align_corners=False)[0]
    result = map_ops.upsample_argmax(logits, height, width)
    assert (result.dtype, result.shape) == (torch.uint8, (height, width))
    # the class chosen is the best, but for rounding
    chosen = scores.gather(0, result.long()[None])[0]
    assert float((scores.max(0).values - chosen).max()) <= 1e-5


def test_upsample_argmax_is_argmax_of_the_enlarged_scores() -> None:
    logits = noise(21, 56, 56)
    scores = functional.interpolate(logits[None], (448, 448), mode="bilinear", align_corners=False)[0]
    assert float((map_ops.upsample_argmax(logits, 448, 448) == class_map(scores)).float().mean()) >= 0.9999


def test_upsample_argmax_of_equals_takes_the_lowest() -> None:
    assert not map_ops.upsample_argmax(torch.ones(5, 3, 4), 11, 13).any()
    assert torch.equal(map_ops.upsample_argmax(torch.eye(3)[:, None, :], 1, 3), torch.tensor([[0, 1, 2]]).byte())


@given(seed=seeds, length=st.sampled_from([1e-3, 1.0, 50.0]), **sides)
def test_unit_normals(seed: int, length: float, h: int, w: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    normals = noise(3, h, w, spread=length)
    enlarged = functional.interpolate(normals[None].double(), (height, width), mode="bilinear")[0]
    result = map_ops.unit_normals(normals, height, width)
    assert (result.dtype, result.shape) == (torch.float32, (3, height, width))
    lengths = enlarged.norm(dim=0)
    torch.testing.assert_close(result.norm(dim=0), torch.ones(height, width), rtol=0, atol=1e-6)
    # rounding turns what all but cancels out
    assert float((((result - enlarged / lengths) * lengths).abs()).max()) <= 1e-5 * length


def test_a_vector_of_length_zero_stays_so() -> None:
    assert not map_ops.unit_normals(torch.zeros(3, 2, 2), 3, 3).any()


@given(seed=seeds, spread=st.sampled_from([1e-3, 1.0, 30.0, 1e9]), **sides)
def test_enlarge_sigmoid(seed: int, spread: float, h: int, w: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    logits = noise(h, w, spread=spread)
    enlarged = functional.interpolate(logits[None, None].double(), (height, width), mode="bilinear")[0, 0]
    result = map_ops.enlarge_sigmoid(logits, height, width)
    assert (result.dtype, result.shape) == (torch.float32, (height, width))
    apart = 1e-6 + torch.minimum(torch.tensor(1.0), 1e-5 * spread * torch.exp(-(enlarged.abs() - 1e-5 * spread)))
    assert bool(((result - enlarged.sigmoid()).abs() <= apart).all())


@given(seed=seeds, classes=st.sampled_from([1, 2, 21, 256]), **sides)
def test_enlarge_classes(seed: int, classes: int, h: int, w: int, height: int, width: int) -> None:
    """Sizes may shrink too: the formula is for any two."""
    small = np.random.default_rng(seed).integers(0, classes, (h, w), np.uint8)
    rows, columns = ((np.arange(n) * 2 + 1) * of // (2 * n) for n, of in ((height, h), (width, w)))
    large, counts = map_ops.enlarge_classes(torch.from_numpy(small), height, width)
    np.testing.assert_array_equal(large, small[rows][:, columns])
    assert counts.tolist() == np.bincount(large.numpy().ravel(), minlength=256).tolist()


@given(seed=seeds, length=st.sampled_from([1e-3, 1.0, 50.0]), **sides)
def test_quantise_normals(seed: int, length: float, h: int, w: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    normals = noise(3, h, w, spread=length)
    enlarged = functional.interpolate(normals[None].double(), (height, width), mode="bilinear")[0].permute(1, 2, 0)
    lengths = enlarged.norm(dim=2, keepdim=True)
    expected = (enlarged / lengths + 1) * 127.5
    result = map_ops.quantise_normals(normals, height, width)
    assert (result.dtype, result.shape) == (torch.uint8, (height, width, 3))
    # rounded to the nearest, but for the rounding of what is rounded, which turns vectors that all but cancel out
    turned = 127.5 * 1e-5 * length / lengths
    assert bool(((result.double() - expected).abs() <= 0.5 + 1e-4 + turned).all())


def test_zero_vectors_are_middle_grey() -> None:
    assert torch.equal(
        map_ops.quantise_normals(torch.zeros(3, 2, 2), 3, 3), torch.full((3, 3, 3), 128, dtype=torch.uint8)
    )


@given(seed=seeds, **sides)
def test_saliency_to_gray(seed: int, h: int, w: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    probability = torch.rand(h, w)
    enlarged = functional.interpolate(probability[None, None].double(), (height, width), mode="bilinear")[0, 0]
    result = map_ops.saliency_to_gray(probability, height, width)
    assert (result.dtype, result.shape) == (torch.uint8, (height, width))
    assert float((result.double() - enlarged * 255).abs().max()) <= 0.5 + 5e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: map_ops.upsample_argmax(noise(256, 2, 2), 4, 4), "logits must be"),
        (lambda: map_ops.upsample_argmax(noise(3, 2, 2), 0, 4), "at least 1 x 1, got 0 x 4"),
        (lambda: map_ops.quantise_normals(noise(4, 2, 2), 4, 4), "normals must be"),
        (lambda: map_ops.unit_normals(noise(2, 2, 2), 4, 4), "normals must be"),
        (lambda: map_ops.enlarge_sigmoid(noise(1, 2, 2), 4, 4), "logits must be"),
        (lambda: map_ops.enlarge_classes(torch.zeros(0, 2).byte(), 4, 4), "class_map must be"),
        (lambda: map_ops.enlarge_classes(torch.zeros(2, 2).byte(), 4, 0), "size must be at least"),
        (lambda: map_ops.saliency_to_gray(noise(1, 2, 2), 4, 4), "probability must be"),
    ],
)
def test_wrong_shapes_are_named(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(MTLoRAError, match=message):
        call()
