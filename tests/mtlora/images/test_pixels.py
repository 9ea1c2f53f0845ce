"""Pixels without a copy are the pixels, and stay so when the image is gone."""

import gc

import numpy as np
import pytest
from PIL import Image

from mtlora.images.pixels import pixels_of
from mtlora.vocabulary.errors import ImageError


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (1280, 960), (3000, 2000)])
def test_pixels(size: tuple[int, int]) -> None:
    """The last is above what Pillow keeps in one piece."""
    values = noise(*size)
    pixels = pixels_of(Image.fromarray(values))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[..., :3], values)


def test_memory_is_shared_and_outlives_the_image() -> None:
    values = noise(640, 480)
    image = Image.fromarray(values)
    pixels = pixels_of(image)
    if pixels.shape[2] == 3:
        pytest.skip("this Pillow hands out no memory")
    image.putpixel((3, 2), (1, 2, 3))
    assert pixels[2, 3, :3].tolist() == [1, 2, 3]
    del image
    gc.collect()
    others = [Image.new("RGB", (640, 480), (9, 9, 9)) for _ in range(8)]
    np.testing.assert_array_equal(pixels[5:, :, :3], values[5:])
    assert len(others) == 8


def test_views_keep_the_memory_too() -> None:
    values = noise(64, 48)
    view = pixels_of(Image.fromarray(values))[1:, 1:, :3]
    gc.collect()
    np.testing.assert_array_equal(view, values[1:, 1:])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=f"mode {mode}"):
        pixels_of(Image.new(mode, (2, 2)))
