"""Hostile photos: cut, flipped, bombs, and what only says that it is one."""

import pickle
import random
import struct
import zlib
from collections.abc import Iterator

from testing.hostile_images import BOMBS, chunk
from testing.serving import encoded, picture
from tests.e2e.hostile_requests import ANY_ANSWER, FORMATS, NO_IMAGE, REFUSED, Case, Request, form, part, photo


def photo_form(headers: dict[str, str]) -> Request:
    """A good form under headers that do not fit it."""
    coded = {key: value.encode("latin-1").decode("latin-1") for key, value in headers.items()}
    return Request(body=form(part('name="image"', encoded(picture(), "PNG"))), headers=coded)


def truncated_images() -> Iterator[Case]:
    for number, kind in enumerate(FORMATS):
        content = encoded(picture(200, 150, seed=number), kind)
        for seed in range(4):
            cut = int(len(content) * random.Random(f"{kind}{seed}").uniform(0.01, 0.7))
            yield Case(f"{kind} cut at {cut}", lambda _, c=content[:cut]: photo(c), NO_IMAGE)


def flipped_images() -> Iterator[Case]:
    for number, kind in enumerate(FORMATS):
        plain = encoded(picture(120, 90, seed=number), kind)
        for seed in range(5):
            content, chance = bytearray(plain), random.Random(f"{kind}{seed}")
            for _ in range(8):
                content[chance.randrange(min(len(content), 400))] ^= 1 << chance.randrange(8)
            yield Case(f"{kind} with flipped bits {seed}", lambda _, c=bytes(content): photo(c), ANY_ANSWER)


def image_bombs() -> Iterator[Case]:
    for name, content in BOMBS.items():
        if len(content) < 1_900_000:
            yield Case(f"bomb, {name}", lambda _, c=content: photo(c), REFUSED)
    inflated = zlib.compress(b"\0" * 20_000_000, 9)
    for kind in (b"zTXt", b"iCCP", b"iTXt"):
        text = b"k\0\1\0\0\0" if kind == b"iTXt" else b"k\0\0"
        plain = encoded(picture(), "PNG")
        content = plain[:33] + chunk(kind, text + inflated) + plain[33:]
        # Never inflated: a decoder sees nothing but the picture.
        yield Case(f"bomb, {kind.decode()}", lambda _, c=content: photo(c), frozenset({200}))
    for name, content in huge_pictures().items():
        yield Case(f"huge {name}", lambda _, c=content: photo(c), frozenset({413}))


def huge_pictures() -> dict[str, bytes]:
    """Headers that promise gigabytes."""
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    tags = ((256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 60_000), (279, 9))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    jpeg = encoded(picture(64, 64), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    canvas = (16_383 - 1).to_bytes(3, "little") * 2
    return {
        "PNG": png + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""),
        "JPEG": jpeg[:frame] + b"\xff\xff\xff\xff" + jpeg[frame + 4 :],
        "GIF": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2L\1\0;",
        "GIF frame": b"GIF89a\1\0\1\0\0\0\0," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\2\2L\1\0;",
        "BMP": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "TIFF": b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0",
        "WebP": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas,
    }


def no_images() -> Iterator[Case]:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    others = {
        "svg": svg,
        "html": b"<script>alert(1)</script>",
        "pdf": b"%PDF-1.7\n",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "icon": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0",
        "heic": b"\0\0\0\x18ftypheic" + bytes(64),
        "portable pixmap": b"P6 10 10 255\n" + bytes(300),
        "pickle": pickle.dumps({"image": 1}),
        "noise": random.Random(2).randbytes(10_000),
        "one byte": b"\xff",
        "text": b"hello",
    }
    for name, content in others.items():
        yield Case(f"no image: {name}", lambda _, c=content: photo(c), frozenset({415}))
    yield Case("empty body", lambda _: photo(b""), REFUSED)
    yield Case("too many bytes", lambda _: photo(bytes(2_100_000)), frozenset({413}))
    good = encoded(picture(), "PNG")
    for media in ("text/plain", "application/octet-stream", "application/xml", "multipart/mixed; boundary=edge"):
        looked_at = media == "application/octet-stream"  # what says nothing of itself is told by its bytes
        expected = frozenset({200 if looked_at else 415})
        yield Case(f"Content-Type {media}", lambda _, m=media: photo(good, m), expected)
    packed = zlib.compress(good, wbits=31)
    headers = {"Content-Type": "image/png", "Content-Encoding": "gzip"}
    yield Case("packed body", lambda _: Request(body=packed, headers=headers), frozenset({415}))
