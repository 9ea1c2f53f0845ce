"""Files that are cheap to send and were dear to read: those that are refused, and those whose tricks are cut away.

Each trick of the second kind lies beside, before or behind one small picture, which is read as if it lay alone.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

SIZE = (16, 12)
ZEROS = zlib.compress(bytes(2**20 - 10), 9)
PNG_START = b"\x89PNG\r\n\x1a\n"


def encoded(form: str, size: tuple[int, int] = SIZE, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*extra: bytes) -> bytes:
    plain = encoded("PNG")
    return plain[:33] + b"".join(extra) + plain[33:]  # after the header


def drawn_png(size: tuple[int, int], depth: int, colour: int, rows: int, interlace: int = 0) -> bytes:
    """A header, and that many bytes of black rows."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlace))
    return PNG_START + head + chunk(b"IDAT", zlib.compress(bytes(rows), 9)) + chunk(b"IEND")


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(*before: bytes, behind: bytes = b"", scans: int = 0, size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    plain = encoded("JPEG", size, **{"progressive": True} | options)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:2] + b"".join(before) + plain[2:-2] + last * scans + b"\xff\xd9" + behind


def gif(before: bytes = b"", behind: bytes = b"") -> bytes:
    plain = encoded("GIF")
    start = 13 + (3 << ((plain[10] & 7) + 1) if plain[10] & 0x80 else 0)
    return plain[:start] + before + plain[start:-1] + behind + b";"


def directory(tags: dict[int, tuple[int, int, bytes | int]], at: int, order: str = "<") -> bytes:
    """Kind, count, and the value itself or the bytes that lie elsewhere."""
    lines, values, values_at = b"", b"", at + 6 + 12 * len(tags)
    for tag, (kind, count, value) in tags.items():
        lines += struct.pack(order + "HHI", tag, kind, count)
        if isinstance(value, int):
            lines += struct.pack(order + "I", value)
        else:
            lines += struct.pack(order + "I", values_at + len(values))
            values += value
    return struct.pack(order + "H", len(tags)) + lines + bytes(4) + values


Tags = dict[int, tuple[int, int, bytes | int]]  # kind, count, and the value itself or bytes that lie elsewhere
PLAIN_TAGS: Tags = {
    256: (4, 1, SIZE[0]),
    257: (4, 1, SIZE[1]),
    258: (3, 1, 8),
    259: (3, 1, 1),
    262: (3, 1, 1),
    273: (4, 1, 8),
    277: (3, 1, 1),
    279: (4, 1, SIZE[0] * SIZE[1]),
}


def tiff(tags: dict[int, tuple[int, int, bytes | int]], pixels: bytes | None = None, behind: bytes = b"") -> bytes:
    """A grey picture of 16 x 12 at its beginning, and tags of one's own."""
    pixels = encoded_pixels() if pixels is None else pixels
    pixels += bytes(len(pixels) & 1)
    start = 8 + len(pixels)
    return b"II*\0" + struct.pack("<I", start) + pixels + directory(PLAIN_TAGS | tags, start) + behind


def encoded_pixels() -> bytes:
    return Image.radial_gradient("L").resize(SIZE).tobytes()


def tiled(side: tuple[int, int], compression: int, tile: bytes, size: tuple[int, int] = (64, 64)) -> bytes:
    """Every tile is the same one."""
    number = -(-size[0] // side[0]) * -(-size[1] // side[1])
    offsets: bytes | int = 8 if number == 1 else struct.pack("<I", 8) * number
    lengths: bytes | int = len(tile) if number == 1 else struct.pack("<I", len(tile)) * number
    tags: Tags = {256: (4, 1, size[0]), 257: (4, 1, size[1]), 259: (3, 1, compression), 322: (4, 1, side[0])}
    tags |= {323: (4, 1, side[1]), 324: (4, number, offsets), 325: (4, number, lengths)}
    plain = {tag: value for tag, value in PLAIN_TAGS.items() if tag not in {273, 279}} | tags
    body = tile + bytes(len(tile) & 1)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory(plain, 8 + len(body))


def strips(size: tuple[int, int], number: int, rows: int, *, big: bool = False) -> bytes:
    """One bit per pixel, in strips that all lie at one place."""
    entry = "<HHQQ" if big else "<HHII"
    start = 16 if big else 8
    tags = {256: size[0], 257: size[1], 258: 1, 259: 1, 262: 1, 277: 1, 278: rows}
    count = len(tags) + 2
    table = start + (8 + 20 * count + 8 if big else 2 + 12 * count + 4)
    width = 8 if big else 4
    ends = {273: (number, table), 279: (number, table + number * width)}
    body = (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, count)) if big else (b"II*\0" + struct.pack("<IH", 8, count))
    for tag in sorted(tags | ends):
        values, value = ends.get(tag, (1, tags.get(tag, 0)))
        body += struct.pack(entry, tag, 16 if big and tag in ends else 4, values, value)
    body += b"\0" * (8 if big else 4)
    form = "Q" if big else "I"
    place = table + 2 * number * width
    body += struct.pack(f"<{number}{form}", *[place] * number)
    body += struct.pack(f"<{number}{form}", *[size[0] * rows // 8] * number)
    return body + b"\x55" * (size[0] * size[1] // 8)


def bmp(size: tuple[int, int], bits: int, compression: int, pixels: bytes, colours: int = 256) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression, 0, 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 4 * colours) + head + b"\0\1\2\0" * colours + pixels


def webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def webp(flags: int, canvas: tuple[int, int], *chunks: bytes, declared: int = 0) -> bytes:
    sides = b"".join((side - 1).to_bytes(3, "little") for side in canvas)
    body = b"WEBP" + webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides) + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", declared or len(body)) + body


def frame(size: tuple[int, int] = SIZE) -> bytes:
    sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
    return webp_chunk(b"ANMF", bytes(6) + sides + bytes(4) + encoded("WEBP")[12:])


STILL = encoded("WEBP")[12:]
ANIM = webp_chunk(b"ANIM", bytes(6))


def exif_trap(number: int = 60_000) -> bytes:
    """A directory of lists that all lie at one place."""
    lines = b"".join(struct.pack("<HHII", 1000 + tag, 5, number, 8) for tag in range(500))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 500) + lines + bytes(8 * number)


def refused_pngs() -> Iterator[tuple[str, bytes]]:
    yield "png: chunks of nothing", png(*[chunk(b"teSt")] * 100_000)
    yield "png: pixels in crumbs", png(*[chunk(b"IDAT")] * 100_000)
    yield "png: profiles of nothing", png(*[chunk(b"iCCP", b"k\0\0")] * 30_000)
    yield "png: palettes", png(*[chunk(b"PLTE", bytes(3))] * 30_000)
    yield "png: frames of nothing", png(*[chunk(b"fcTL", bytes(26))] * 30_000)


def refused_jpegs() -> Iterator[tuple[str, bytes]]:
    yield "jpeg: segments", jpeg(*[b"\xff\xe9\0\2"] * 100_000)
    yield "jpeg: segments of no length", jpeg(*[b"\xff\xe9\0\0"] * 100_000)
    yield "jpeg: comments", jpeg(*[b"\xff\xfe\0\2"] * 100_000)
    yield "jpeg: scans", jpeg(scans=3000)
    yield "jpeg: scans of a large picture", jpeg(scans=90, size=(900, 900))
    yield "jpeg: arithmetic of scans", jpeg(scans=101).replace(b"\xff\xc2", b"\xff\xca", 1)
    yield "jpeg: tables", jpeg(*[segment(0xDB, (b"\0" + b"\1" * 64) * 1000)] * 20)
    yield "jpeg: Huffman tables", jpeg(*[segment(0xC4, b"\0" + bytes(16))] * 5000)
    yield "jpeg: restart intervals", jpeg(*[segment(0xDD, b"\0\1")] * 5000)
    tables = segment(0xC4, b"\0" + bytes(16)) * 50
    plain = encoded("JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    yield "jpeg: tables between scans", plain[:-2] + (tables + last) * 90 + b"\xff\xd9"


def refused_others() -> Iterator[tuple[str, bytes]]:
    yield "gif: comments", gif(b"!\xfe\1x\0" * 100_000)
    yield "gif: comments of nothing", gif(b"!\xfe\0" * 100_000)
    yield "gif: parts of one comment", gif(b"!\xfe" + b"\1x" * 100_000 + b"\0")
    yield "gif: controls", gif(b"!\xf9\4\1\0\0\3\0" * 20_000)
    yield "gif: pixels in crumbs", encoded("GIF")[:-2] + b"\1\0" * 900_000 + b"\0;"
    yield "tiff: strips", strips((16, 50_000), 50_000, 1)
    yield "tiff: strips, big", strips((16, 50_000), 50_000, 1, big=True)
    lists: Tags = {273: (4, 2000, struct.pack("<I", 8) * 2000), 279: (4, 2000, struct.pack("<I", 50_000) * 2000)}
    rows: Tags = {257: (4, 1, 2000), 259: (3, 1, 32773), 278: (3, 1, 1)}
    yield "tiff: packed strips that lie in one place", tiff(rows | lists, bytes(50_000))
    yield "tiff: a tile beyond the picture", tiled((30_000, 30_000), 8, zlib.compress(bytes(5000)))
    yield "tiff: a raw tile beyond the picture", tiled((46_000, 46_000), 1, bytes(5000))
    yield "tiff: a tile, wide", tiled((2**31, 16), 5, bytes(100))
    yield "tiff: tiles along an edge", tiled((4096, 4096), 8, zlib.compress(bytes(4096**2)), (65_000, 16))
    yield "tiff: tags", tiff({1000 + tag: (3, 1, 0) for tag in range(5000)})
    yield "tiff: a table of JPEGs", tiff({259: (3, 1, 7), 347: (7, 1_000_000, bytes(1_000_000))})
    bomb = jpeg(scans=120, mode="L")
    yield "tiff: scans of a JPEG", tiff({259: (3, 1, 7), 279: (4, 1, len(bomb))}, bomb)
    strip = b"\xff\xd8" + b"\xff\xe9\0\2" * 4000 + b"\xff\xd9"
    lists = {273: (4, 2000, struct.pack("<I", 8) * 2000), 279: (4, 2000, struct.pack("<I", len(strip)) * 2000)}
    rows = {257: (4, 1, 2000), 259: (3, 1, 7), 278: (3, 1, 1)}
    yield "tiff: segments of many JPEGs", tiff(rows | lists, strip, bytes(20_000_000))
    yield "bmp: run lengths", bmp((1000, 1000), 8, 1, b"\1\1" * 600_000)
    yield "bmp: line ends", bmp((1400, 1400), 8, 1, b"\0\0" * 600_000)


def harmless_pngs() -> Iterator[tuple[str, bytes]]:
    yield "png: colour profile again and again", png(*[chunk(b"iCCP", b"k\0\0" + ZEROS)] * 200)
    yield "png: a colour profile without end", png(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000), 9)))
    yield "png: texts", png(*[chunk(b"zTXt", b"k\0\0" + ZEROS)] * 300)
    yield "png: a text without end", png(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000), 9)))
    yield "png: XMP again and again", png(*[chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + ZEROS)] * 300)
    yield "png: raw profiles", png(*[chunk(b"zTXt", b"Raw profile type exif\0\0" + ZEROS)] * 300)
    yield "png: EXIF of lists", png(chunk(b"eXIf", exif_trap()))
    yield "png: EXIF beyond itself", png(chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"))
    yield "png: XMP full of beginnings", png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orient" * 90_000))
    yield "png: one long name", png(chunk(b"tEXt", b"k" * 3_000_000))
    yield "png: suggested palettes", png(*[chunk(b"sPLT", bytes(60_000))] * 50)
    yield "png: frames", png(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))
    yield "png: behind its end", png() + chunk(b"zTXt", b"k\0\0" + ZEROS) * 300
    plain = encoded("PNG")
    rows = zlib.decompress(plain[plain.index(b"IDAT") + 4 : -16])
    packed = zlib.compress(rows + bytes(100_000_000), 9)
    yield "png: pixels without end", plain[:33] + chunk(b"IDAT", packed) + chunk(b"IEND")


def harmless_jpegs() -> Iterator[tuple[str, bytes]]:
    trap = b"Exif\0\0" + exif_trap()[:60_000]
    yield "jpeg: EXIF in pieces", jpeg(*[segment(0xE1, b"Exif\0\0" + bytes(4700))] * 1000)
    yield "jpeg: EXIF of lists", jpeg(segment(0xE1, trap), *[segment(0xE1, b"Exif\0\0" + bytes(64_000))] * 40)
    yield "jpeg: XMP", jpeg(*[segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 4700)] * 1000)
    yield "jpeg: profiles", jpeg(*[segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(4700))] * 1000)
    yield "jpeg: Photoshop's blocks", jpeg(*[segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000)] * 40)
    index = directory({0xB001: (4, 1, 2**31 - 1), 0xB002: (7, 48, bytes(48))}, 8)
    yield "jpeg: an index of pictures", jpeg(segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + index))
    yield "jpeg: an index of lists", jpeg(segment(0xE2, b"MPF\0" + exif_trap()[:60_000]))
    yield "jpeg: fill bytes", jpeg(b"\xff" * 3_000_000)
    yield "jpeg: junk", jpeg(b"\xff\xe9\0\2" + bytes(3_000_000))
    yield "jpeg: restarts outside scans", jpeg(b"\xff\xd0" * 1_000_000)
    yield "jpeg: scans behind its end", jpeg(behind=b"\xff\xda" * 1_000_000)
    yield "jpeg: pictures behind its end", jpeg(behind=jpeg() * 2000)
    yield "jpeg: markers of Adobe", jpeg(*[segment(0xEE, b"Adobe" + bytes(60_000))] * 40, keep_rgb=True)


def harmless_others() -> Iterator[tuple[str, bytes]]:
    yield "gif: junk", gif(bytes(3_000_000))
    yield "gif: comments behind", gif(behind=b"!\xfe\1x\0" * 100_000)
    yield "gif: frames behind", gif(behind=b",\0\0\0\0\1\0\1\0\0\2\2L\1\0" * 100_000)
    yield "gif: an application's data", gif(b"!\xff\x0bNETSCAPE2.0" + (b"\xff" + bytes(255)) * 10_000 + b"\0")
    yield "tiff: a list of bits", tiff({258: (3, 2_000_000, b"\x08\0" * 2_000_000)})
    yield "tiff: formats", tiff({339: (3, 2_000_000, b"\1\0" * 2_000_000)})
    yield "tiff: a palette that is not used", tiff({320: (3, 2_000_000, b"\1\0" * 2_000_000)})
    yield "tiff: resolution", tiff({282: (5, 500_000, b"\1\0\0\0" * 1_000_000)})
    yield "tiff: EXIF", tiff({34665: (4, 1, 8 + 192 + 6 + 12 * 9)}, behind=exif_trap()[8:])
    yield "tiff: GPS", tiff({34853: (4, 1, 8 + 192 + 6 + 12 * 9)}, behind=exif_trap()[8:])
    yield (
        "tiff: more strips than rows",
        tiff(
            {
                278: (3, 1, 12),
                273: (4, 500_000, struct.pack("<I", 8) * 500_000),
                279: (4, 500_000, struct.pack("<I", 192) * 500_000),
            }
        ),
    )
    loop = tiff({})
    yield "tiff: a directory that follows itself", loop[:-4] + loop[4:8]
    yield "tiff: tags again", tiff({34675: (7, 3_000_000, bytes(3_000_000)), 33723: (4, 100_000, bytes(400_000))})
    yield "webp: EXIF of lists", webp(8, SIZE, STILL, webp_chunk(b"EXIF", exif_trap()))
    yield "webp: XMP", webp(4, SIZE, STILL, webp_chunk(b"XMP ", b"tiff:Orientation" * 100_000))
    yield "webp: frames", webp(2, SIZE, ANIM, frame() * 20_000)
    yield "webp: chunks of nothing", webp(0, SIZE, STILL, webp_chunk(b"none", b"") * 200_000)
    yield "webp: colour profiles", webp(0x20, SIZE, webp_chunk(b"ICCP", bytes(3_000_000)), STILL)
    yield "webp: pictures", webp(0, SIZE, STILL * 5000)


REFUSED = {name: data for family in (refused_pngs, refused_jpegs, refused_others) for name, data in family()}
HARMLESS = {name: data for family in (harmless_pngs, harmless_jpegs, harmless_others) for name, data in family()}
BOMBS = REFUSED
"""What the service refuses."""
