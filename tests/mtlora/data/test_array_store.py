import numpy as np
import pytest
import torch

from mtlora.data.array_store import ArrayStore, PhotoArrays
from mtlora.data.augment import AugmentConfig, make_batch
from mtlora.vocabulary.tasks import Task
from testing.label_shapes import SIDE, generator, paraboloid

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float16])
def test_rows_are_those_of_the_array(device: str, kind: type[np.generic]) -> None:
    array = np.random.default_rng(0).integers(0, 250, (700, 3, 2)).astype(kind)
    order = np.array([650, 3, 3, 0])
    rows = ArrayStore(array, device).rows(order)
    assert rows.device.type == device
    np.testing.assert_array_equal(rows.cpu().numpy(), array[order])


def test_main_memory_holds_no_copy() -> None:
    assert not ArrayStore(np.zeros((2, 2), np.uint8)).on_device


@needs_gpu
def test_a_gpu_holds_bytes_but_no_depth() -> None:
    assert ArrayStore(np.zeros((2, 2), np.uint8), "cuda").on_device
    assert not ArrayStore(np.zeros((2, 2), np.uint16), "cuda").on_device


@needs_gpu
def test_a_seed_means_the_same_batch_on_a_gpu() -> None:
    config = AugmentConfig(jitter=0.4, grey=0.2, stretch=1.2, rotate_deg=30)
    here, there = (
        make_batch(PhotoArrays.of(paraboloid(8), device), np.arange(8), SIDE, config, generator(5))
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.photos.cpu(), here.photos, rtol=0, atol=2e-3)
    same = there.targets[Task.SEMSEG].cpu() == here.targets[Task.SEMSEG]
    assert same.float().mean() > 0.99  # a pixel on the border between two may fall to either


def test_mixed_precision_moves_nothing() -> None:
    config = AugmentConfig(rotate_deg=30)
    arrays = PhotoArrays.of(paraboloid())
    plain = make_batch(arrays, np.arange(4), SIDE, config, generator(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = make_batch(arrays, np.arange(4), SIDE, config, generator(2))
        assert torch.equal(mixed.geometry.grid(5, 7), plain.geometry.grid(5, 7))
    assert torch.equal(mixed.photos, plain.photos)
    assert torch.equal(mixed.targets[Task.NORMALS], plain.targets[Task.NORMALS])
