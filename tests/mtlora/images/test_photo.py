"""Rows of a photo, however it is stored, are rows of the upright RGB picture."""

import numpy as np
import pytest
from PIL import Image

from mtlora.images import photo as module
from mtlora.images.photo import Photo, decoding, to_rgb
from mtlora.images.pixels import shared_pixels_of
from mtlora.images.tiles import Box
from mtlora.vocabulary.errors import ImageTooCostlyError

SIDEWAYS = range(5, 9)


def noise(mode: str, width: int = 31, height: int = 17) -> Image.Image:
    random = np.random.default_rng(len(mode) + width)
    if mode == "F":
        return Image.fromarray(random.random((height, width), np.float32))
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (height, width), dtype=np.uint16))
    picture = Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")
    return picture if mode == "RGBA" else picture.convert(mode)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """By Pillow's own rule."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


@pytest.mark.parametrize("orientation", [*range(0, 10), 65535])
def test_rows_are_those_of_the_upright_picture(orientation: int) -> None:
    stored = noise("RGB")
    upright = np.asarray(turned(stored.copy(), orientation) if orientation in range(2, 9) else stored)
    photo = Photo(stored, orientation)
    assert (photo.height, photo.width) == upright.shape[:2]
    np.testing.assert_array_equal(np.asarray(photo.whole()), upright)
    for top, bottom in ((0, 1), (3, 9), (photo.height - 2, photo.height)):
        np.testing.assert_array_equal(np.asarray(photo.rows(top, bottom)), upright[top:bottom])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_bands_together_are_the_whole(mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BAND_PIXELS", 64)  # two rows, or three
    photo = Photo(noise("I;16").convert("I") if mode == "I" else noise(mode), orientation)
    bands = list(photo.bands())
    assert len(bands) > 4
    assert [top for top, _ in bands] == np.cumsum([0, *(len(band) for _, band in bands)])[:-1].tolist()
    np.testing.assert_array_equal(np.concatenate([band[..., :3] for _, band in bands]), np.asarray(photo.whole()))


def test_what_a_reader_could_miss() -> None:
    plain = Photo(noise("RGB"))
    assert (plain.orientation, plain.is_transparent, plain.is_deep) == (1, False, False)
    assert Photo(noise("RGB"), 6).orientation == 6 and Photo(noise("RGB"), 9).orientation == 1
    assert Photo(noise("RGBA")).is_transparent and not Photo(noise("RGB").convert("RGBA")).is_transparent
    assert Photo(noise("I;16")).is_deep and Photo(noise("F")).is_deep


def test_an_upright_rgb_picture_is_not_copied() -> None:
    image = noise("RGB")
    assert Photo(image).whole() is image
    shared = shared_pixels_of(image)
    if shared is not None:  # as Pillow and its version allow
        (_, band), *_ = Photo(image).bands()
        assert np.shares_memory(band, shared)
    assert to_rgb(image) is image


def test_float_grey_is_scaled_by_all_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """0..1 unless anything is above 1: the last row decides over the first."""
    monkeypatch.setattr(module, "BAND_PIXELS", 1)
    values = np.full((5, 3), 0.5, np.float32)
    assert Photo(Image.fromarray(values)).rows(0, 1).getpixel((0, 0)) == (128, 128, 128)
    values[4, 2] = 200
    assert Photo(Image.fromarray(values)).rows(0, 1).getpixel((0, 0)) == (0, 0, 0)
    values[4] = np.nan
    assert Photo(Image.fromarray(values)).rows(4, 5).getpixel((0, 0)) == (0, 0, 0)


def test_no_memory_is_the_photos_cost() -> None:
    with pytest.raises(ImageTooCostlyError, match="more memory"), decoding():
        raise MemoryError


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_parts_are_those_of_the_upright_picture(orientation: int, mode: str) -> None:
    photo = Photo(noise(mode), orientation)
    upright = np.asarray(photo.whole())
    for box in (Box(0, 0, photo.width, photo.height), Box(2, 3, 9, 14), Box(photo.width - 1, photo.height - 1, 99, 99)):
        clipped = Box(box.left, box.top, min(box.right, photo.width), min(box.bottom, photo.height))
        part = photo.part(clipped)
        assert (part.width, part.height) == (clipped.right - clipped.left, clipped.bottom - clipped.top)
        wanted = upright[clipped.top : clipped.bottom, clipped.left : clipped.right]
        np.testing.assert_array_equal(np.asarray(part.whole()), wanted)
        np.testing.assert_array_equal(np.concatenate([band[..., :3] for _, band in part.bands()]), wanted)
