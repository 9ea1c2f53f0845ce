"""What the writer writes, other people's readers read."""

import ctypes
import io
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from mtlora.kernels import kernels
from mtlora.maps.png_writer import color_png, pack, png_file
from mtlora.ops import map_ops
from mtlora.vocabulary.errors import ImageError

pytestmark = pytest.mark.usefixtures("instruction_set")

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


runs = st.lists(st.tuples(st.integers(0, 255), st.integers(1, 2000)), min_size=1, max_size=30)
noises = st.tuples(st.integers(0, 2**31), st.integers(1, 20_000), st.integers(1, 256), st.floats(0, 40))


def unpacked(data: NDArray[np.uint8], last: bool) -> bytes:
    """What other people's reader makes of these bytes where they are packed as a filtered row, without its filter type.

    The predictor leaves of a row below none the difference to the pixel before: so it is given the sums. Rows of little
    but zeros are kept as they are.
    """
    native = kernels()
    if native is None:
        pytest.skip("no native code")
    row, checksum = np.cumsum(data, dtype=np.uint8), ctypes.c_uint32()
    packed = np.full(2 * (data.size + 1) + 256 + 8, 0xAA, np.uint8)
    size = native.pack_rows(
        row.ctypes.data, packed.ctypes.data, ctypes.addressof(checksum), 0, 1, row.size, 1, last
    )  # fmt: skip
    assert size <= packed.size - 8
    assert (packed[-8:] == 0xAA).all()
    reader = zlib.decompressobj(-15)
    found = reader.decompress(packed[:size].tobytes())
    assert (reader.eof, reader.unused_data, reader.unconsumed_tail) == (last, b"", b"")
    assert zlib.adler32(found) == checksum.value
    if found[:1] == b"\x02":
        assert found[1:] == row.tobytes()
        return data.tobytes()
    assert found[:1] == b"\x04"
    return found[1:]


@given(runs=runs, last=st.booleans())
def test_runs_come_back(runs: list[tuple[int, int]], last: bool) -> None:
    values, lengths = zip(*runs, strict=True)
    data = np.repeat(np.array(values, np.uint8), lengths)
    assert unpacked(data, last) == data.tobytes()


@given(noise=noises, last=st.booleans())
def test_noise_comes_back(noise: tuple[int, int, int, float], last: bool) -> None:
    """Flat noise, and geometric: whose rarest values would have codes of far more than twelve bits."""
    seed, size, values, bias = noise
    source = np.random.default_rng(seed)
    flat = source.integers(0, values, size)
    data = (flat if bias < 1 else source.geometric(1 - 1 / (1 + bias), size) % values).astype(np.uint8)
    assert unpacked(data, last) == data.tobytes()


def test_codes_are_cut_to_twelve_bits() -> None:
    """Counts like Fibonacci's numbers make the longest codes there can be."""
    counts = [1, 1]
    while len(counts) < 24:
        counts.append(counts[-1] + counts[-2])
    data = np.random.default_rng(0).permutation(np.repeat(np.arange(24, dtype=np.uint8), counts))
    assert unpacked(data, True) == data.tobytes()


def test_enlarged_maps_are_packed_smaller_than_by_a_general_writer() -> None:
    if kernels() is None:
        pytest.skip("no native code")
    torch.manual_seed(0)
    pixels = map_ops.quantise_normals(torch.randn(3, 20, 30), 400, 600).numpy()
    general = io.BytesIO()
    Image.fromarray(pixels).save(general, "PNG", compress_level=1)
    assert len(png_file(pixels)) < len(general.getvalue())


def packed_rows(png: bytes) -> bytes:
    """All `IDAT` chunks of a file."""
    at, found = 8, b""
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        found += png[at + 8 : at + 8 + size] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + size
    return found


@pytest.mark.parametrize("slope", [0.25, 1, 3])
def test_rows_that_differ_in_few_bytes_are_told_by_the_row_above(slope: float) -> None:
    """Class maps whose edges follow scores: a slanted edge, and noise, which the predictor takes."""
    y, x = np.mgrid[:90, :700]
    pixels = np.where(x > 100 + slope * y, np.where(x > 500 - slope * y, 20, 7), 0).astype(np.uint8)
    pixels[60:] = np.random.default_rng(0).integers(0, 256, (30, 700))
    data = png_file(pixels)
    np.testing.assert_array_equal(np.asarray(read(data)), pixels)
    rows = zlib.decompress(packed_rows(data))[::701]
    if kernels() is not None:
        assert set(rows[1:60]) <= {2, 4}
        assert rows.count(2) > 10
        assert set(rows[60:]) == {4}


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


@given(pixels=colors, cuts=st.lists(st.integers(1, 39), max_size=4))
def test_stripes_are_one_picture(pixels: NDArray[Any], cuts: list[int]) -> None:
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    edges = sorted({0, height, *(cut for cut in cuts if cut < height)})
    stripes = [pack(rows, 3, top, bottom, last=bottom == height) for top, bottom in pairwise(edges)]
    np.testing.assert_array_equal(np.asarray(read(color_png(width, height, stripes).file())), pixels)


def test_stripes_of_many_bands_are_one_picture() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (700, 1200), np.uint8)
    stripes = [pack(rows, 3, top, bottom, last=bottom == 700) for top, bottom in ((0, 1), (1, 401), (401, 700))]
    image = read(color_png(400, 700, stripes).file())
    np.testing.assert_array_equal(np.asarray(image).reshape(700, -1), rows)


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
