"""Maps as PNG: what other programs read from them, without native code and with every instruction set there is."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mtlora.maps.map_png import Painting, encode, encode_map, encode_normals
from mtlora.maps.postprocessing import PhotoMap, decode_coarse
from mtlora.ops import map_ops
from mtlora.vocabulary.errors import ImageError, MTLoRAError
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import Task, voc_color

pytestmark = pytest.mark.usefixtures("instruction_set")

sides = {"h": st.integers(1, 20), "w": st.integers(1, 20), "height": st.integers(1, 90), "width": st.integers(1, 90)}


def reopened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_class_map_png() -> None:
    """Pixel value is the class id, colours are the set's, all 256 entries are there."""
    indices = np.arange(21, dtype=np.uint8).reshape(3, 7)
    result = encode_map(indices, TaskSpec.make(Task.SEMSEG))
    image = reopened(result.png)
    assert (result.encoding, image.mode, image.size) == ("png-palette", "P", (7, 3))
    np.testing.assert_array_equal(np.asarray(image), indices)
    assert image.convert("RGB").getpixel((1, 0)) == voc_color(1)
    assert (image.getpalette() or [])[-3:] == list(voc_color(255))


def test_saliency_png() -> None:
    result = encode_map(np.array([[0, 0.5, 1]], np.float32), TaskSpec.make(Task.SALIENCY))
    assert (result.encoding, result.minimum, result.maximum) == ("png-gray", 0, 1)
    assert np.asarray(reopened(result.png)).tolist() == [[0, 128, 255]]


def test_normals_png() -> None:
    normals = np.array([[[0, 0, -1], [1, 0, 0]]], np.float32)
    result = encode_map(normals, TaskSpec.make(Task.NORMALS))
    assert result.encoding == "png-rgb"
    assert np.asarray(reopened(result.png)).tolist() == [[[128, 128, 0], [255, 128, 128]]]


def test_depth_png_states_its_scale() -> None:
    depth = np.linspace(1.5, 9.5, 12, dtype=np.float32).reshape(3, 4)
    result = encode_map(depth, TaskSpec.make(Task.DEPTH))
    image = reopened(result.png)
    assert (result.minimum, result.maximum) == (1.5, 9.5)
    assert (float(image.info["minimum"]), float(image.info["maximum"])) == (1.5, 9.5)
    restored = np.asarray(image).astype(np.float32) / 65535 * 8 + 1.5
    np.testing.assert_allclose(restored, depth, atol=1e-4)


def test_constant_depth() -> None:
    assert np.asarray(reopened(encode_map(np.ones((2, 2), np.float32), TaskSpec.make(Task.DEPTH)).png)).max() == 0


def test_a_map_of_another_task_is_refused() -> None:
    with pytest.raises(ImageError, match=r"normals cannot have shape \(2, 2\)"):
        encode_map(np.ones((2, 2), np.float32), TaskSpec.make(Task.NORMALS))


def vectors(h: int, w: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, h, w, generator=torch.Generator().manual_seed(seed))


def painted(coarse: torch.Tensor, side: int, height: int, width: int) -> np.ndarray:
    source = PhotoMap(Task.NORMALS, decode_coarse(Task.NORMALS, coarse, side), height, width)
    return Painting(source, TaskSpec.make(Task.NORMALS)).whole()


def packed(coarse: torch.Tensor, side: int, height: int, width: int, rows: tuple[int, ...]) -> np.ndarray:
    first, *others = (encode_normals(coarse, side, height, width, top, bottom) for top, bottom in pairwise(rows))
    for other in others:
        first = first.above(other)
    return np.asarray(reopened(first.png))


@pytest.mark.parametrize("rows", [(0, 90), (0, 1, 90), (0, 33, 34, 90)])
def test_normals_packed_from_the_decoder_are_those_that_are_painted(rows: tuple[int, ...]) -> None:
    """Enough columns for several bands."""
    coarse = vectors(7, 9)
    np.testing.assert_array_equal(packed(coarse, 64, 90, 1500, rows), painted(coarse, 64, 90, 1500))


@given(seed=st.integers(0, 2**31), side=st.integers(1, 50), cut=st.floats(0, 1), **sides)
def test_packed_normals_of_any_size(seed: int, side: int, cut: float, h: int, w: int, height: int, width: int) -> None:
    """Bit for bit, wherever they are cut."""
    coarse, row = vectors(h, w, seed), round(cut * height)
    rows = (0, row, height) if 0 < row < height else (0, height)
    np.testing.assert_array_equal(packed(coarse, side, height, width, rows), painted(coarse, side, height, width))


@pytest.mark.parametrize(
    ("coarse", "side", "height", "rows", "message"),
    [
        (torch.zeros(2, 2, 2), 4, 4, (0, 4), "coarse must be"),
        (vectors(2, 2), 4, 4, (3, 3), "rows must be some of 0 to 4, got 3 to 3"),
        (vectors(2, 2), 4, 4, (0, 5), "rows must be some of 0 to 4, got 0 to 5"),
        (vectors(2, 2), 0, 4, (0, 4), "size must be at least"),
        (vectors(2, 2), 4, 0, (0, 0), "size must be at least"),
    ],
)
def test_wrong_normals_are_named(
    coarse: torch.Tensor, side: int, height: int, rows: tuple[int, int], message: str
) -> None:
    with pytest.raises(MTLoRAError, match=message):
        encode_normals(coarse, side, height, 4, *rows)


@pytest.mark.parametrize(("height", "width"), [(513, 640), (3, 70_000), (70_000, 3), (5, 7)])
@pytest.mark.parametrize("task", [Task.SEMSEG, Task.SALIENCY])
def test_maps_are_painted_in_bands_as_they_are_at_once(task: Task, height: int, width: int) -> None:
    spec = TaskSpec.make(task)
    coarse = torch.randn(spec.outputs, 8, 8, generator=torch.Generator().manual_seed(0)) * 3
    decoded = decode_coarse(task, coarse, 64)
    painting = Painting(PhotoMap(task, decoded, height, width), spec)
    if task is Task.SEMSEG:
        expected, counts = map_ops.enlarge_classes(decoded, height, width)
        assert painting.counts == tuple(counts.tolist())
    else:
        expected = map_ops.saliency_to_gray(decoded, height, width)
    pixels = np.asarray(reopened(encode(painting).png))
    np.testing.assert_array_equal(pixels, expected)
    if task is Task.SALIENCY:
        assert painting.mean == pytest.approx(float(pixels.mean()) / 255, rel=1e-12)
