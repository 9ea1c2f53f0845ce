"""Files that are known and not read are refused by name, with a way out."""

import numpy as np
import pytest

from mtlora.images.opening import open_photo
from mtlora.vocabulary.errors import ImageFormatError
from testing.image_variants import encoded, picture

KINDS = {
    "JPEG XL": b"\xff\x0a\xff\x07" + bytes(90),
    "JPEG 2000": encoded(picture(), "JPEG2000"),
    "a film": b"\0\0\0\x18ftypmp42" + bytes(12) + b"\0\0\0\x08mdat",
    "a film or a sound": b"RIFF\0\0\0\0AVI LIST",
    "a camera's raw picture": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "SVG": b'  \n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "XML or an SVG": b"\xef\xbb\xbf<?xml version='1.0'?><svg/>",
    "PDF": encoded(picture(), "PDF"),
    "a zip archive": b"PK\3\4" + bytes(50),
    "an icon": encoded(picture(), "ICO"),
    "nothing is fetched from one": b"https://example.org/photo.jpg",
    "a JPEG in base64": b"/9j/4AAQSkZJRgABAQ",
    "an address, b.data": b"data:image/png;base64,iVBORw0KGgo",
    "holds no still picture": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
}


@pytest.mark.parametrize("words", KINDS)
def test_the_refusal_names_the_kind(words: str) -> None:
    with pytest.raises(ImageFormatError, match=words):
        open_photo(KINDS[words])


@pytest.mark.parametrize("bits", [12, 16, 2])
def test_a_jpeg_of_other_bits_is_named(bits: int) -> None:
    content = bytearray(encoded(picture(), "JPEG"))
    content[content.index(b"\xff\xc0") + 4] = bits
    with pytest.raises(ImageFormatError, match=f"a JPEG of {bits} bits a colour; only 8 are read"):
        open_photo(bytes(content))


def test_random_bytes_are_no_known_kind() -> None:
    for seed in range(20):
        with pytest.raises(ImageFormatError, match="not an image"):
            open_photo(b"x" + np.random.default_rng(seed).bytes(300))
