"""Image files made safe for a decoder: a small file of the same format, made anew.

A decoder's work and memory are bounded by the picture's size almost everywhere; where they are not, it is by lists of
small things, by what lies beside the picture, or by parts larger than it. So nothing of a file reaches a decoder but
what its first picture needs, each size checked. The cost is one pass over the bytes, and one copy of them.
"""

from mtlora.images.container.bmp import read_bmp
from mtlora.images.container.bounds import Container
from mtlora.images.container.gif import read_gif
from mtlora.images.container.heif import read_heif
from mtlora.images.container.jpeg import read_jpeg
from mtlora.images.container.known_kinds import is_still, other_kind
from mtlora.images.container.png import read_png
from mtlora.images.container.tiff import TIFF_PREFIXES, read_tiff
from mtlora.images.container.webp import read_webp
from mtlora.vocabulary.errors import ImageFormatError

__all__ = ["Container", "is_image", "read_container"]

_LEAST = 16
_READERS = {
    b"\x89PNG\r\n\x1a\n": read_png,
    b"\xff\xd8\xff": read_jpeg,
    b"GIF87a": read_gif,
    b"GIF89a": read_gif,
    b"BM": read_bmp,
    **dict.fromkeys(TIFF_PREFIXES, read_tiff),
}


def read_container(data: bytes, max_pixels: int) -> Container:
    """What a decoder is to see of a file; of no known format: the file itself, which no decoder will take.

    `ImageFormatError`: of a kind that is known and not read; `ImageTooLargeError`: more than `max_pixels`, or a side
    beyond all reason; `ImageTooCostlyError`: far more to read than such a picture asks for; plain `ImageError`:
    truncated or corrupt, as far as that is seen without decoding.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return read_webp(data, max_pixels)
    if data[4:8] == b"ftyp" and is_still(data):
        return read_heif(data, max_pixels)
    for prefix, reader in _READERS.items():
        if data.startswith(prefix):
            return reader(data, max_pixels)
    refusal = other_kind(data)
    if refusal:
        raise ImageFormatError(refusal)
    return Container(data)


def is_image(data: bytes) -> bool:
    """Whether a file begins like one of the formats that are read."""
    if data[4:8] == b"ftyp" or data[:4] == b"RIFF":
        return data[8:12] == b"WEBP" or (data[4:8] == b"ftyp" and len(data) >= _LEAST and is_still(data))
    return data.startswith(tuple(_READERS))
