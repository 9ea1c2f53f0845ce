"""HEIC and AVIF: the picture with its tiles, turns and transparency; sizes before anything is decoded."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from mtlora.images.container import read_container
from mtlora.images.container.boxes import boxes, full_box
from mtlora.images.heif_decoders import HAS_AVIF, HAS_HEIC
from mtlora.images.opening import DEFAULT_MAX_PIXELS, open_photo
from mtlora.vocabulary.errors import ImageError, ImageTooCostlyError, ImageTooLargeError
from testing.image_variants import encoded, picture
from testing.profiles import colorants, rgb_profile

HEIC = pytest.mark.skipif(not HAS_HEIC, reason="pillow-heif is not installed")
AVIF = pytest.mark.skipif(not HAS_AVIF, reason="this Pillow has no AVIF")
BOTH = [pytest.param("AVIF", marks=AVIF), pytest.param("HEIF", marks=HEIC)]
SIZE = (68, 44)


def photo(form: str, **options: object) -> bytes:
    image = picture(str(options.pop("mode", "RGB")), SIZE)
    return encoded(
        image, form, quality=95, **({"chroma": 444} if form == "HEIF" else {"subsampling": "4:4:4"}), **options
    )


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) >= 1
    return content.replace(old, new)


@pytest.mark.parametrize("form", BOTH)
def test_the_picture_is_that_of_the_whole_file(form: str) -> None:
    content = photo(form)
    got = np.asarray(open_photo(content)).astype(int)
    whole = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert np.array_equal(got, whole)
    assert np.abs(got - np.asarray(picture(size=SIZE)).astype(int)).mean() < 4


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("value", range(1, 9))
def test_turns_of_the_file_are_ours_to_do(form: str, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    content = photo(form, exif=exif.tobytes())
    container = read_container(content, DEFAULT_MAX_PIXELS)
    assert container.orientation == value
    assert b"irot" not in container.data
    assert b"Exif" not in container.data
    assert open_photo(content).size == (SIZE if value < 5 else SIZE[::-1])


@pytest.mark.parametrize("form", BOTH)
def test_transparency_is_over_white(form: str) -> None:
    image = Image.new("RGBA", (64, 64), (10, 200, 30, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    got = open_photo(encoded(image, form, quality=100))
    assert np.array(got.getpixel((5, 30))).min() > 250
    assert np.abs(np.array(got.getpixel((58, 30))) - (10, 200, 30)).max() < 8


@pytest.mark.parametrize("form", BOTH)
def test_films_thumbnails_and_notes_are_left_out(form: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "described" * 9000
    rich = photo(form, exif=exif, xmp=b"<x/>" * 9000, icc_profile=rgb_profile(colorants("p3")))
    behind = rich + b"\0\0\0\x10mpvdabcdefgh" + bytes(100_000)
    container = read_container(behind, DEFAULT_MAX_PIXELS)
    assert container.profile
    assert len(container.data) < len(photo(form)) + 300
    assert open_photo(behind) == open_photo(rich)


@pytest.mark.parametrize("form", BOTH)
def test_sizes_are_checked_before_decoding(form: str) -> None:
    content = photo(form)
    at = content.index(b"ispe") - 4
    said = content[at : at + 20]
    with pytest.raises(ImageTooLargeError, match="limit is 1000"):
        open_photo(content, 1000)
    with pytest.raises(ImageTooLargeError, match="70000"):
        open_photo(patched(content, said, full_box(b"ispe", 0, struct.pack(">II", 70_000, 2))))
    with pytest.raises(ImageError, match="in a file that says 2 x 2"):
        open_photo(patched(photo(form, mode="RGB"), said, full_box(b"ispe", 0, struct.pack(">II", 2, 2))), 10_000)


@pytest.mark.parametrize("form", BOTH)
def test_pictures_within_one_are_bounded(form: str) -> None:
    content = photo(form)
    data = content[content.index(b"mdat") + 4 :]
    many = data * 40
    start = len(content)
    places = content.index(b"iloc")
    moved = bytearray(content + many)
    at = places + 4 + 4 + 2 + 2  # version, sizes, count: then the first item
    fields = content[places + 8 : places + 10]
    offset_bytes, length_bytes, base_bytes = fields[0] >> 4, fields[0] & 15, fields[1] >> 4
    at += 2 + (2 if content[places + 4] else 0) + 2 + base_bytes + 2
    if base_bytes:
        moved[at - 2 - base_bytes : at - 2] = bytes(base_bytes)
    moved[at : at + offset_bytes] = start.to_bytes(offset_bytes, "big")
    moved[at + offset_bytes : at + offset_bytes + length_bytes] = len(many).to_bytes(length_bytes, "big")
    with pytest.raises(ImageTooCostlyError, match="coded pictures for one"):
        open_photo(bytes(moved))


@pytest.mark.parametrize("form", BOTH)
def test_anything_cut_short_or_changed_is_an_image_error(form: str) -> None:
    content = photo(form)
    for end in range(12, len(content), 7):
        try:
            open_photo(content[:end])
        except ImageError:
            continue
    random = np.random.default_rng(3)
    head = content.index(b"mdat")
    for _ in range(150):
        broken = bytearray(content)
        for at in random.integers(0, head, 3):
            broken[at] = random.integers(256)
        try:
            open_photo(bytes(broken))
        except ImageError:
            continue


@pytest.mark.parametrize("form", BOTH)
def test_what_is_written_can_be_read_again(form: str) -> None:
    once = read_container(photo(form, mode="RGBA"), DEFAULT_MAX_PIXELS)
    again = read_container(once.data, DEFAULT_MAX_PIXELS)
    assert again.data == once.data
    assert [kind for kind, _ in boxes(memoryview(once.data))] == [b"ftyp", b"meta", b"mdat"]


@HEIC
def test_tiles_as_phones_write_them() -> None:
    image = picture(size=(300, 200))
    content = encoded(image, "HEIF", quality=95, chroma=444, tile_size=128)
    assert b"grid" in content
    got = np.asarray(open_photo(content)).astype(int)
    assert got.shape == (200, 300, 3)
    assert np.abs(got - np.asarray(image).astype(int)).mean() < 4
    with pytest.raises(ImageTooLargeError, match="300 x 200"):
        open_photo(content, 50_000)


@pytest.mark.skipif(HAS_HEIC, reason="pillow-heif is installed")
def test_without_its_decoder_heic_is_named() -> None:
    with pytest.raises(ImageError, match="HEIC"):
        open_photo(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
