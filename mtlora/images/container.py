"""Refuses image files that are cheap to send and dear to read, before a decoder sees them.

A decoder's work and memory are bounded by the picture's size almost everywhere; this is where they are not: lists of
small things that are read one by one, or again and again. The bounds are far beyond what cameras and editors write.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mtlora.errors import ImageTooCostlyError

MAX_PNG_CHUNKS = 20_000  # 50 megapixels in chunks of 8 KiB are some 6,000
MAX_PNG_EXTRAS = 256  # chunks beside pixels and animation, each of which may be inflated to 1 MB
MAX_JPEG_STEPS = 4096  # segments and stray bytes before the first scan
MAX_JPEG_SCANS = 256
MAX_JPEG_SCAN_PIXELS = 16  # scans times pixels, as a multiple of the largest photo
MAX_GIF_STEPS = 16_384  # blocks, their parts and stray bytes before the first frame
MAX_TIFF_PARTS = 32_768  # strips or tiles: a tile of 64 x 64 px makes 12,000 of 50 megapixels
MAX_RUN_LENGTH_BMP_BYTES = 2**20  # decoded by an interpreted loop

_PNG_PIXELS = {b"IDAT", b"fdAT", b"fcTL"}
_TIFF_PART_TAGS = {273, 279, 324, 325}  # offsets and byte counts of strips and of tiles
_SIZES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # JPEG frame headers
_SCAN = 0xDA
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


@dataclass(frozen=True, slots=True)
class Container:
    """An image file as a decoder is to see it."""

    data: bytes
    orientation: int  # of the EXIF standard, 1 to 8: how the first picture is to be held
    width: int = 0
    height: int = 0
    decoded_bytes: int = 0


def read_container(data: bytes, max_pixels: int) -> Container:
    """What a decoder is to see of a file."""
    check_container(data, max_pixels)
    return Container(data, 1)


def check_container(data: bytes, max_pixels: int) -> None:
    """`ImageTooCostlyError` if a decoder would have far more to do than a photo of `max_pixels` asks for.

    What is broken in another way passes: the decoder says it better.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data)
    elif data.startswith(b"\xff\xd8"):
        _check_jpeg(data, max_pixels)
    elif data.startswith(b"GIF8"):
        _check_gif(data)
    elif data[:2] in {b"II", b"MM"}:
        _check_tiff(data)
    elif data.startswith(b"BM") and len(data) > MAX_RUN_LENGTH_BMP_BYTES and data[30:34] in {b"\1\0\0\0", b"\2\0\0\0"}:
        _refuse(f"a run-length coded BMP of {len(data)} bytes", MAX_RUN_LENGTH_BMP_BYTES)


def _check_png(data: bytes) -> None:
    extras = chunks = position = 0
    profiles = 0
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        chunks += 1
        extras += kind not in _PNG_PIXELS
        profiles += kind == b"iCCP"
        if chunks > MAX_PNG_CHUNKS:
            _refuse("PNG chunks", MAX_PNG_CHUNKS)
        if extras > MAX_PNG_EXTRAS:
            _refuse("PNG chunks beside its pixels", MAX_PNG_EXTRAS)
        if profiles > 1:
            _refuse("colour profiles", 1)
        position += 12 + length


def _check_jpeg(data: bytes, max_pixels: int) -> None:
    pixels = steps = 0
    position = 2
    while position + 4 <= len(data):
        steps += 1
        if steps > MAX_JPEG_STEPS:
            _refuse("JPEG segments before its first scan", MAX_JPEG_STEPS)
        if data[position] != 0xFF or data[position + 1] in {0x00, 0xFF}:
            position += 1
            continue
        marker = data[position + 1]
        if marker == _SCAN:
            break
        if marker in _SIZES and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            pixels = max(pixels, height * width)
        position += 2 if marker in _WITHOUT_LENGTH else 2 + struct.unpack_from(">H", data, position + 2)[0]
    scans = data.count(b"\xff\xda", position)
    if scans > MAX_JPEG_SCANS:
        _refuse("JPEG scans", MAX_JPEG_SCANS)
    if pixels <= max_pixels < scans * pixels / MAX_JPEG_SCAN_PIXELS:  # larger ones are refused for their size
        _refuse(f"JPEG scans of {pixels} pixels", MAX_JPEG_SCAN_PIXELS * max_pixels // max(pixels, 1))


def _check_gif(data: bytes) -> None:
    if len(data) < 13:
        return
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    steps = 0
    while position < len(data) and data[position] not in b",;":
        steps += 1
        if data[position] == 0x21:
            position += 2
            while position < len(data) and data[position] and steps <= MAX_GIF_STEPS:
                position += 1 + data[position]
                steps += 1
        if steps > MAX_GIF_STEPS:
            _refuse("GIF blocks before its first frame", MAX_GIF_STEPS)
        position += 1


def _check_tiff(data: bytes) -> None:
    for tag, count in _tiff_entries(data):
        if tag in _TIFF_PART_TAGS and count > MAX_TIFF_PARTS:
            _refuse("TIFF strips or tiles", MAX_TIFF_PARTS)


def _tiff_entries(data: bytes) -> Iterator[tuple[int, int]]:
    """Tag and number of values of each entry in the first directory; classic and big TIFF."""
    order, big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    start_form, count_form, entry_form = (
        order + form for form in (("Q", "Q", "HHQ8x") if big else ("I", "H", "HHI4x"))
    )
    try:
        (start,) = struct.unpack_from(start_form, data, 8 if big else 4)
        (entries,) = struct.unpack_from(count_form, data, start)
        start += struct.calcsize(count_form)
        for index in range(min(entries, 65_535)):
            tag, _, count = struct.unpack_from(entry_form, data, start + index * struct.calcsize(entry_form))
            yield tag, count
    except struct.error:  # ends early; the decoder says so
        return


def _refuse(what: str, most: int) -> None:
    raise ImageTooCostlyError(f"the image is built to be slow to read: too many or too large: {what}; at most {most}")
