"""The model's square of any photo, in kernels and plainly, is that of torch: to the last bit, or to a thousandth."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from mtlora.images import photo as photo_module
from mtlora.images import resampling
from mtlora.images.photo import Photo
from mtlora.images.resampling import Levels, square
from mtlora.kernels import Kernels, kernels, library
from mtlora.kernels.library import INSTRUCTION_SETS, best_instruction_set, library_path
from mtlora.vocabulary.errors import ImageError
from testing.examples import examples

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = [(500, 375), (40, 30), (64, 64), (63, 65), (1, 1), (2000, 3), (3, 2000), (1, 65_535), (65_535, 1)]
BUILT = [
    name
    for name in INSTRUCTION_SETS[: INSTRUCTION_SETS.index(best_instruction_set()) + 1]
    if library_path(name).exists()
]


def noise(width: int, height: int) -> Image.Image:
    random = np.random.default_rng(width * 7 + height)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def by_torch(image: Image.Image, side: int, *, antialias: bool) -> np.ndarray:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    values = pixels if antialias else pixels.float()
    return functional.interpolate(values, (side, side), mode="bicubic", antialias=antialias)[0].float().numpy()


def need_kernels() -> Kernels:
    native = kernels()
    if native is None:
        pytest.skip(f"no native code here: {library.status().reason}")
    return native


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("side", [32, 97])
def test_antialiased_is_torchs_to_the_last_bit(size: tuple[int, int], side: int) -> None:
    if torch.backends.cpu.get_cpu_capability() not in {"AVX2", "AVX512"}:
        pytest.skip("torch uses whole numbers on processors with AVX2 only")
    image = noise(*size)
    result = square(Photo(image), side, Levels(), antialias=True, native=need_kernels())
    np.testing.assert_array_equal(result, by_torch(image, side, antialias=True))


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("name", [*BUILT, ""])
def test_every_way_is_the_same(size: tuple[int, int], name: str) -> None:
    """Instruction sets to the last bit; Pillow within 1 of 255, within 4 where thousands of rows become few."""
    native = Kernels(library_path(name), share_threads=False) if name else None
    image = noise(*size)
    smooth = square(Photo(image), 48, Levels(), antialias=True, native=native)
    expected = np.array(image.resize((48, 48), Image.Resampling.BICUBIC)).astype(np.float32).transpose(2, 0, 1)
    assert np.abs(smooth - expected).max() <= (1 if max(size) < 2000 else 4)
    published = square(Photo(image), 48, Levels(), antialias=False, native=native)
    np.testing.assert_allclose(published, by_torch(image, 48, antialias=False), rtol=0, atol=1e-2)
    if name:
        best = square(Photo(image), 48, Levels(), antialias=True, native=need_kernels())
        np.testing.assert_array_equal(smooth, best)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70), st.integers(1, 200), st.booleans(), st.booleans())
@settings(max_examples=examples(60))
def test_bands_change_nothing(width: int, height: int, side: int, band: int, antialias: bool, plain: bool) -> None:
    image, native = noise(width, height), None if plain else kernels()
    whole = square(Photo(image), side, Levels(), antialias=antialias, native=native)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photo_module, "BAND_PIXELS", band)
        patch.setattr(resampling, "BAND_PIXELS", band)
        parts = square(Photo(image), side, Levels(), antialias=antialias, native=native)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=0 if antialias or not plain else 1e-3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("antialias", [True, False])
def test_a_turned_photo_is_the_upright_one(orientation: int, antialias: bool) -> None:
    photo = Photo(noise(301, 203), orientation)
    upright = Photo(photo.whole().copy())
    turned, plain = (square(p, 64, Levels(), antialias=antialias, native=kernels()) for p in (photo, upright))
    np.testing.assert_array_equal(turned, plain)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_levels_scale_and_shift_each_colour(antialias: bool, plain: bool) -> None:
    image, native = noise(80, 60), None if plain else kernels()
    raw = square(Photo(image), 32, Levels(), antialias=antialias, native=native)
    levels = Levels.normalising(MEAN, STD)
    expected = (raw / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    result = square(Photo(image), 32, levels, antialias=antialias, native=native)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


def test_a_square_has_a_side() -> None:
    with pytest.raises(ImageError, match="at least 1, got 0"):
        square(Photo(noise(3, 3)), 0, Levels(), antialias=True, native=None)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_it_is_written_where_the_caller_says(antialias: bool, plain: bool) -> None:
    image, native = noise(40, 30), None if plain else kernels()
    out = np.full((3, 32, 32), np.nan, np.float32)
    assert square(Photo(image), 32, Levels(), antialias=antialias, native=native, out=out) is out
    np.testing.assert_array_equal(out, square(Photo(image), 32, Levels(), antialias=antialias, native=native))


@pytest.mark.parametrize(
    "out", [np.empty((3, 32, 31), np.float32), np.empty((3, 32, 32)), np.empty((6, 32, 32), "f")[::2]]
)
def test_what_it_is_written_to_must_fit(out: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"contiguous float32 \[3, 32, 32\]"):
        square(Photo(noise(40, 30)), 32, Levels(), antialias=True, native=kernels(), out=out)
