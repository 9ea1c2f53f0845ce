"""Files that cost a decoder minutes or gigabytes are refused in milliseconds; what cameras and editors write is not."""

import io
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from mtlora.errors import ImageError, ImageTooLargeError
from mtlora.images.container import read_container
from mtlora.images.opening import DEFAULT_MAX_PIXELS, open_photo

SIZE = (16, 12)


def encoded(form: str, size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 40).convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*extra: bytes) -> bytes:
    plain = encoded("PNG")
    return plain[:33] + b"".join(extra) + plain[33:]  # after the header


def jpeg(*before: bytes, scans: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    plain = encoded("JPEG", size, progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:2] + b"".join(before) + plain[2:-2] + last * scans + b"\xff\xd9"


def gif(before: bytes) -> bytes:
    plain = encoded("GIF")
    start = 13 + (3 << ((plain[10] & 7) + 1) if plain[10] & 0x80 else 0)
    return plain[:start] + before + plain[start:]


def tiff(size: tuple[int, int], offsets: int, rows: int, *, big: bool = False) -> bytes:
    """One bit per pixel, in strips that all lie at one place."""
    entry = "<HHQQ" if big else "<HHII"
    start = 16 if big else 8
    tags = {256: size[0], 257: size[1], 258: 1, 259: 1, 262: 1, 277: 1, 278: rows}
    number = len(tags) + 2
    table = start + (8 + 20 * number + 8 if big else 2 + 12 * number + 4)
    width = 8 if big else 4
    ends = {273: (offsets, table), 279: (offsets, table + offsets * width)}
    body = (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, number)) if big else (b"II*\0" + struct.pack("<IH", 8, number))
    for tag in sorted(tags | ends):
        count, value = ends.get(tag, (1, tags.get(tag, 0)))
        body += struct.pack(entry, tag, 16 if big and tag in ends else 4, count, value)
    body += b"\0" * (8 if big else 4)
    number_form = "Q" if big else "I"
    place = table + 2 * offsets * width
    body += struct.pack(f"<{offsets}{number_form}", *[place] * offsets)
    body += struct.pack(f"<{offsets}{number_form}", *[size[0] * rows // 8] * offsets)
    return body + b"\x55" * (size[0] * size[1] // 8)


def run_length_bmp(runs: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 3000, 3000, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + head + b"\0\1\2\0" * 256 + b"\1\1" * runs


BOMB = zlib.compress(b"\0" * (2**20 - 10), 9)
BOMBS = {
    "png: colour profile again and again": png(*[chunk(b"iCCP", b"k\0\0" + BOMB)] * 200),
    "png: texts": png(*[chunk(b"zTXt", b"k\0\0" + BOMB)] * 300),
    "png: chunks of nothing": png(*[chunk(b"teSt")] * 100_000),
    "png: pixels in crumbs": png(*[chunk(b"IDAT")] * 100_000),
    "jpeg: segments": jpeg(*[b"\xff\xe9\0\2"] * 100_000),
    "jpeg: comments": jpeg(*[b"\xff\xfe\0\2"] * 100_000),
    "jpeg: fill bytes": jpeg(b"\xff" * 300_000),
    "jpeg: junk": jpeg(b"\xff\xe9\0\2" + b"\0" * 300_000),
    "jpeg: scans": jpeg(scans=3000),
    "jpeg: scans of a large picture": jpeg(scans=90, size=(900, 900)),
    "gif: comments": gif(b"!\xfe\1x\0" * 100_000),
    "gif: parts of one comment": gif(b"!\xfe" + b"\1x" * 100_000 + b"\0"),
    "gif: junk": gif(b"\0" * 300_000),
    "tiff: strips": tiff((64, 64), 100_000, 1),
    "tiff: strips, big": tiff((64, 64), 100_000, 1, big=True),
    "tiff: strips that overlap": tiff((1024, 1024), 2000, 1023),
    "bmp: run lengths": run_length_bmp(600_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(name: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ImageError, match="built to be slow to read"):
        open_photo(BOMBS[name], 2_000_000)
    assert time.perf_counter() - start < 2  # most are far below; the machine may be busy


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_what_inflates_beyond_reason_is_refused(kind: bytes) -> None:
    with pytest.raises(ImageError, match="too large"):
        open_photo(png(chunk(kind, b"k\0\0" + zlib.compress(b"\0" * 50_000_000, 9))))


@pytest.mark.parametrize(
    "content",
    [
        png()[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)) + png()[33:],
        b"GIF89a" + struct.pack("<HH", 1, 1) + b"\0\0\0," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\2\2L\1\0;",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
        jpeg().replace(struct.pack(">HH", *SIZE[::-1]), b"\xff\xff\xff\xff", 1),
    ],
    ids=["png", "gif frame beyond its screen", "bmp", "jpeg"],
)
def test_huge_pictures_are_refused_on_their_header(content: bytes) -> None:
    with pytest.raises(ImageTooLargeError):
        open_photo(content)


def test_ordinary_files_pass() -> None:
    text = PngImagePlugin.PngInfo()
    for index in range(100):
        text.add_text(f"key{index}", "words " * 50, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        encoded("PNG", pnginfo=text, icc_profile=b"x" * 5000),
        encoded("JPEG", progressive=True, exif=exif, icc_profile=b"x" * 200_000, comment=b"c" * 60_000),
        encoded("JPEG", restart_marker_rows=1),
        encoded("GIF", comment=b"c" * 5000),
        encoded("TIFF", compression="tiff_lzw", strip_size=64),
        encoded("TIFF"),
        encoded("BMP"),
        encoded("WEBP", exif=exif),
        tiff((64, 64), 64, 1),
        tiff((64, 64), 8, 8, big=True),
        run_length_bmp(10),
    ]
    for content in files:
        read_container(content, DEFAULT_MAX_PIXELS)
    for content in files[:-1]:
        assert open_photo(content).mode == "RGB"


def test_anything_cut_short_is_left_to_the_decoder() -> None:
    for content in (png(), jpeg(), gif(b""), tiff((64, 64), 4, 16), tiff((64, 64), 4, 16, big=True)):
        for end in range(0, 200):
            read_container(content[:end], DEFAULT_MAX_PIXELS)
