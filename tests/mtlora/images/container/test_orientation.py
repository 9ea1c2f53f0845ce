"""How a photo is to be held: EXIF first, then XMP, of every format; what cannot be read says nothing."""

import io
import struct
import zlib

import pytest
from PIL import Image

from mtlora.images.container import read_container
from mtlora.images.container.exif import orientation
from mtlora.images.opening import DEFAULT_MAX_PIXELS, open_photo
from testing.hostile_images import chunk
from testing.image_variants import encoded, picture, tiff_file

XMP = b'<rdf:Description tiff:Orientation="%d"/>'
XMP_ELEMENT = b"<tiff:Orientation>%d</tiff:Orientation>"


def exif(value: int, order: str = "<", kind: int = 3, before: int = 0) -> bytes:
    """A block with a comment beside the orientation, and its directory anywhere."""
    at = 8 + before
    body = struct.pack(order + "H", value) + b"\0\0" if kind == 3 else struct.pack(order + "I", value)
    lines = struct.pack(order + "HHI4s", 0x010E, 2, 4, b"abc\0") + struct.pack(order + "HHI", 0x0112, kind, 1) + body
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    return head + bytes(before) + struct.pack(order + "H", 2) + lines + bytes(4)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(*bodies: bytes) -> bytes:
    plain = encoded(picture(), "JPEG")
    return plain[:20] + b"".join(segment(0xE1, body) for body in bodies) + plain[20:]


def jpeg_xmp(packet: bytes) -> bytes:
    return b"http://ns.adobe.com/xap/1.0/\0" + packet


def png(*chunks: bytes, late: bool = False) -> bytes:
    plain = encoded(picture(), "PNG")
    at = len(plain) - 12 if late else 33
    return plain[:at] + b"".join(chunks) + plain[at:]


def raw_profile(block: bytes) -> bytes:
    digits = (b"Exif\0\0" + block).hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\nexif\n{len(block) + 6:8}\n{lines}\n".encode()


def itxt(packet: bytes, packed: bool = False) -> bytes:
    head = b"XML:com.adobe.xmp\0" + (b"\1\0" if packed else b"\0\0") + b"\0\0"
    return chunk(b"iTXt", head + (zlib.compress(packet) if packed else packet))


def webp(kind: bytes, body: bytes) -> bytes:
    plain = encoded(picture(), "WEBP", exif=b"x", xmp=b"x")
    at = plain.index(b"EXIF")
    parts = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
    return plain[:4] + struct.pack("<I", at + len(parts) - 8) + plain[8:at] + parts


def tiff(order: str, tags: dict[int, list[int]]) -> bytes:
    width, height = picture().size
    shape = {256: [width], 257: [height], 258: [8, 8, 8], 262: [2], 277: [3], 278: [height]}
    return tiff_file(order, shape | tags, [picture().tobytes()], (273, 279))


FILES = {
    "jpeg": lambda v: jpeg(b"Exif\0\0" + exif(v)),
    "jpeg, big endian, long": lambda v: jpeg(b"Exif\0\0" + exif(v, ">", 4)),
    "jpeg, far away": lambda v: jpeg(b"Exif\0\0" + exif(v, ">", before=30_000)),
    "jpeg, XMP": lambda v: jpeg(jpeg_xmp(XMP % v)),
    "jpeg, XMP element": lambda v: jpeg(jpeg_xmp(XMP_ELEMENT % v)),
    "jpeg, EXIF before XMP": lambda v: jpeg(jpeg_xmp(XMP % 3), b"Exif\0\0" + exif(v)),
    "png": lambda v: png(chunk(b"eXIf", exif(v, ">"))),
    "png, behind its pixels": lambda v: png(chunk(b"eXIf", exif(v)), late=True),
    "png, raw profile": lambda v: png(chunk(b"tEXt", b"Raw profile type exif\0" + raw_profile(exif(v)))),
    "png, packed raw profile": lambda v: png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(exif(v, ">"))))
    ),
    "png, XMP": lambda v: png(itxt(XMP % v)),
    "png, packed XMP": lambda v: png(itxt(XMP_ELEMENT % v, packed=True), late=True),
    "png, EXIF before XMP": lambda v: png(itxt(XMP % 3), chunk(b"eXIf", exif(v))),
    "webp": lambda v: webp(b"EXIF", exif(v)),
    "webp, as in JPEG": lambda v: webp(b"EXIF", b"Exif\0\0" + exif(v, ">")),
    "webp, XMP": lambda v: webp(b"XMP ", XMP % v),
    "tiff": lambda v: tiff("<", {274: [v]}),
    "tiff, big endian": lambda v: tiff(">", {274: [v]}),
}


def by_pillow(data: bytes) -> int:
    image = Image.open(io.BytesIO(data))
    if image.format == "PNG":
        image.load()
    return int(image.getexif().get(0x0112, 1))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("name", FILES)
def test_all_eight_of_every_format_as_pillow_reads_them(name: str, value: int) -> None:
    data = FILES[name](value)
    assert read_container(data, DEFAULT_MAX_PIXELS).orientation == value == by_pillow(data)


@pytest.mark.parametrize("name", ["jpeg, XMP", "png", "png, raw profile", "webp", "tiff"])
def test_the_photo_is_turned_once(name: str) -> None:
    upright, turned = open_photo(FILES[name](1)), open_photo(FILES[name](6))
    assert turned == upright.transpose(Image.Transpose.ROTATE_270)


def test_tiffs_are_turned_by_xmp_where_no_tag_says_it() -> None:
    packet = XMP % 8
    data = tiff("<", {700: [int.from_bytes(packet[at : at + 4], "little") for at in range(0, len(packet), 4)]})
    entry = data.index(struct.pack("<HH", 700, 4))
    data = data[:entry] + struct.pack("<HHI", 700, 1, len(packet)) + data[entry + 8 :]
    assert read_container(data, DEFAULT_MAX_PIXELS).orientation == 8 == by_pillow(data)


def test_a_thumbnail_s_orientation_is_not_the_photo_s() -> None:
    block = exif(1)
    with_thumbnail = block[:-4] + struct.pack("<I", len(block)) + exif(6)[8:]
    assert orientation(with_thumbnail) == 1


BROKEN = {
    "nothing": b"",
    "its beginning": b"Exif\0\0II*\0",
    "another order": b"Exif\0\0XX" + exif(6)[2:],
    "directory beyond": b"II*\0" + struct.pack("<I", 2**32 - 1) + exif(6)[8:],
    "a rational": exif(6, kind=5),
    "two values": exif(6).replace(struct.pack("<HHI", 0x112, 3, 1), struct.pack("<HHI", 0x112, 3, 2)),
    "cut": exif(6)[:-8],
    "far too many tags": b"II*\0\x08\0\0\0\xff\xff" + bytes(12) * 65_534 + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_says_nothing(name: str) -> None:
    assert orientation(BROKEN[name]) == 1
    assert orientation(BROKEN[name], XMP % 5) == 5


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_what_is_no_orientation_is_upright(value: int) -> None:
    assert orientation(exif(value), XMP % 6) == 1  # EXIF has said something
    assert orientation(b"", XMP % 9) == 1


def test_texts_that_inflate_without_end_say_nothing_and_cost_nothing() -> None:
    bomb = zlib.compress(bytes(50_000_000) + XMP % 6, 9)
    assert read_container(png(itxt(b"", True)[:-4] + bytes(4)), DEFAULT_MAX_PIXELS).orientation == 1
    packed = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)
    profile = chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb)
    assert read_container(png(packed, profile), DEFAULT_MAX_PIXELS).orientation == 1


def test_files_that_say_it_several_times() -> None:
    """The first EXIF block of a JPEG, the last of a PNG, as decoders have it."""
    assert read_container(jpeg(b"Exif\0\0" + exif(6), b"Exif\0\0" + exif(3)), DEFAULT_MAX_PIXELS).orientation == 6
    twice = png(chunk(b"eXIf", exif(6)), chunk(b"eXIf", exif(3)))
    assert read_container(twice, DEFAULT_MAX_PIXELS).orientation == 3 == by_pillow(twice)
