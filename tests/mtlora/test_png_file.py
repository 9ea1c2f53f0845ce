"""What the writer writes, other people's readers read."""

import io
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from mtlora.errors import ImageError
from mtlora.png_file import png_file

sides = st.integers(1, 40)
grey = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint8, shape))
deep = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint16, shape))
colors = st.tuples(sides, sides, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))


def read(png: bytes) -> Image.Image:
    """Checksums of all chunks and of the packed rows are checked on the way."""
    with Image.open(io.BytesIO(png)) as image:
        image.verify()
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


@given(st.one_of(grey, deep, colors))
def test_pixels_come_back(pixels: NDArray[Any]) -> None:
    image = read(png_file(pixels))
    assert image.mode == {(2, 1): "L", (2, 2): "I;16", (3, 1): "RGB"}[pixels.ndim, pixels.itemsize]
    np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("shape", [(3000, 700), (1, 300_000), (300_000, 1), (700, 400, 3)])
def test_many_bands(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(np.asarray(read(png_file(pixels))), pixels)


def test_rows_that_are_not_contiguous() -> None:
    pixels = np.arange(6000, dtype=np.uint16).reshape(60, 100)[::2, ::3]
    np.testing.assert_array_equal(np.asarray(read(png_file(pixels))), pixels)


def test_indices_keep_their_values_and_get_colours() -> None:
    pixels = np.array([[0, 1], [2, 255]], np.uint8)
    image = read(png_file(pixels, bytes(range(256)) * 3))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert image.convert("RGB").getpixel((1, 0)) == (3, 4, 5)


def test_text_is_kept() -> None:
    image = read(png_file(np.zeros((2, 2), np.uint16), text={"minimum": "-1.5", "maximum": "2.0"}))
    assert image.text == {"minimum": "-1.5", "maximum": "2.0"}  # type: ignore[attr-defined]


def test_packed_rows_are_one_zlib_stream() -> None:
    png, data, at = png_file(np.zeros((2000, 900), np.uint8)), b"", 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        data += png[at + 8 : at + 8 + size] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + size
    assert len(zlib.decompress(data)) == 2000 * 901


@pytest.mark.parametrize(
    ("pixels", "palette"),
    [
        (np.zeros((0, 4), np.uint8), b""),
        (np.zeros((4, 4), np.float32), b""),
        (np.zeros((4, 4, 4), np.uint8), b""),
        (np.zeros((4, 4), np.uint16), b"abc"),
        (np.zeros(4, np.uint8), b""),
    ],
)
def test_what_is_no_map_is_refused(pixels: NDArray[Any], palette: bytes) -> None:
    with pytest.raises(ImageError, match="a PNG map is"):
        png_file(pixels, palette)
