"""Logits become maps, and maps pixels: ranges, sizes, conventions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mtlora.maps.map_png import Painting
from mtlora.maps.postprocessing import (
    Map,
    PhotoMap,
    WholeMap,
    at_model_size,
    at_photo_size,
    class_map,
    decode,
    decode_coarse,
)
from mtlora.ops import torch_ops
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.tasks import Task

SIZE = (50, 70)  # height, width of the photo


def scores(outputs: int, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(outputs, side, side, generator=torch.Generator().manual_seed(seed)) * 4


@given(st.integers(1, 40), st.integers(0, 100), st.booleans())
def test_class_map_is_argmax(classes: int, seed: int, ties: bool) -> None:
    """Also for equal scores, where the lower index wins."""
    logits = scores(classes, seed=seed).round() if ties else scores(classes, seed=seed)
    assert class_map(logits).dtype == torch.uint8
    assert class_map(logits).tolist() == logits.argmax(dim=0).tolist()


@pytest.mark.parametrize("side", [56, 28, 7])
def test_class_maps_straight_from_the_decoders_resolution(side: int) -> None:
    """As upsampling all scores first; rounding may decide ties otherwise, on one pixel in ten thousand at most."""
    smooth = functional.interpolate(scores(21)[None], (side, side), mode="bicubic")[0]
    long_way = class_map(at_model_size(smooth, 8 * side))
    assert (decode_coarse(Task.SEMSEG, smooth, 8 * side) == long_way).float().mean() >= 0.9999


def test_other_maps_are_decoded_at_model_size() -> None:
    normals = scores(3)
    torch.testing.assert_close(
        decode_coarse(Task.NORMALS, normals, 64), decode(Task.NORMALS, at_model_size(normals, 64)), rtol=0, atol=1e-6
    )


def test_saliency_is_decoded_at_model_size() -> None:
    logits = scores(1)
    torch.testing.assert_close(
        decode_coarse(Task.SALIENCY, logits, 64), decode(Task.SALIENCY, at_model_size(logits, 64)), rtol=0, atol=1e-6
    )


def test_class_maps_grow_by_nearest_neighbour() -> None:
    """Only classes of the small map appear, each pixel takes the nearest centre."""
    small = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    big = at_photo_size(Task.SEMSEG, small, 4, 6)
    assert big.tolist() == [[1, 1, 1, 2, 2, 2]] * 2 + [[3, 3, 3, 4, 4, 4]] * 2
    assert at_photo_size(Task.SEMSEG, torch.from_numpy(big), 2, 2).tolist() == small.tolist()


def to_maps(logits: dict[Task, torch.Tensor], height: int, width: int) -> dict[Task, Map]:
    return {task: at_photo_size(task, decode(task, scores), height, width) for task, scores in logits.items()}


def test_shapes_types_and_ranges() -> None:
    outputs = {Task.SEMSEG: 21, Task.SALIENCY: 1, Task.NORMALS: 3, Task.EDGE: 1, Task.DEPTH: 1}
    maps = to_maps({task: scores(k).half() for task, k in outputs.items()}, *SIZE)
    assert {task: (m.shape, m.dtype.type) for task, m in maps.items()} == {
        Task.SEMSEG: (SIZE, np.uint8),
        Task.SALIENCY: (SIZE, np.float32),
        Task.NORMALS: ((*SIZE, 3), np.float32),
        Task.EDGE: (SIZE, np.float32),
        Task.DEPTH: (SIZE, np.float32),
    }
    assert maps[Task.SALIENCY].min() >= 0
    assert maps[Task.SALIENCY].max() <= 1
    np.testing.assert_allclose(np.linalg.norm(maps[Task.NORMALS], axis=2), 1, atol=1e-5)


def test_saliency_is_interpolated_after_the_sigmoid() -> None:
    logits = scores(1)
    expected = functional.interpolate(logits.sigmoid()[None], SIZE, mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(to_maps({Task.SALIENCY: logits}, *SIZE)[Task.SALIENCY], expected, atol=1e-6)


@given(st.sampled_from([Task.SEMSEG, Task.SALIENCY, Task.NORMALS, Task.DEPTH]), st.integers(1, 40), st.integers(1, 40))
def test_bands_are_the_whole_map_whatever_their_height(task: Task, height: int, width: int) -> None:
    decoded = decode(task, scores(3 if task is Task.NORMALS else 5 if task is Task.SEMSEG else 1, side=9))
    whole = PhotoMap(task, decoded, height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_ops, "_BAND_PIXELS", 3 * max(width, decoded.shape[-1]))
        bands = [*whole.bands()]
        assert {len(band) for band in bands[:-1]} <= {3}
        np.testing.assert_array_equal(np.concatenate(bands), at_photo_size(task, decoded, height, width))
    np.testing.assert_array_equal(np.concatenate(bands), whole.whole())
    assert whole.shape == whole.whole().shape


def test_painting_by_bands_is_painting_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for task in (Task.SEMSEG, Task.SALIENCY, Task.NORMALS, Task.DEPTH):
        spec = TaskSpec.make(task)
        source = PhotoMap(task, decode(task, scores(spec.outputs)), *SIZE)
        monkeypatch.setattr(torch_ops, "_BAND_PIXELS", 4 * SIZE[1])
        banded = Painting(source, spec)
        pixels = banded.whole()
        monkeypatch.undo()
        whole = Painting(WholeMap(source.whole()), spec)
        difference = np.abs(pixels.astype(int) - whole.whole().astype(int))
        assert difference.max() <= (task in (Task.SALIENCY, Task.NORMALS))  # kernels may round otherwise
        assert (difference > 0).mean() < 0.001
        assert (banded.minimum, banded.maximum) == (whole.minimum, whole.maximum)
        if task in (Task.SALIENCY, Task.DEPTH):
            assert banded.mean == pytest.approx(float(source.whole().mean()), abs=1e-3)


def test_a_normal_of_length_zero_is_no_nan() -> None:
    normals = to_maps({Task.NORMALS: torch.zeros(3, 4, 4)}, 8, 8)[Task.NORMALS]
    assert np.isfinite(normals).all()


def test_model_resolution_needs_no_resize() -> None:
    logits = scores(3)
    decoded = decode(Task.NORMALS, logits)
    np.testing.assert_allclose(at_photo_size(Task.NORMALS, decoded, 16, 16), decoded.permute(1, 2, 0), atol=1e-6)
