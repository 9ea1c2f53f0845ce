"""Ordinary image files of every format, mode and compression, small, some with all that may lie beside a picture."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image, PngImagePlugin, TiffImagePlugin

from testing.hostile_images import chunk

SIZE = (67, 43)


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """Smooth with some noise, so that lossy formats have something to do; any mode."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows * 5 + seed, columns * 3, (rows + columns) * 2, 255 - rows * 4]
    noise = np.random.default_rng(seed).integers(0, 20, (height, width, 4))
    pixels = ((np.stack(planes, -1) + noise) % 256).astype(np.uint8)
    if mode == "RGBA":
        return Image.fromarray(pixels)
    rgb = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    if mode == "LA":
        return Image.fromarray(np.ascontiguousarray(pixels[..., 1:3]))
    if mode == "PA":
        return rgb.quantize(32).convert("PA")
    if mode in {"I;16", "I;16B", "I", "F"}:
        deep = (pixels[..., 0].astype(np.uint16) << 8) + pixels[..., 1]
        kinds: dict[str, DTypeLike] = {"I": np.int32, "F": np.float32, "I;16": np.uint16, "I;16B": ">u2"}
        return Image.fromarray(deep.astype(kinds[mode]))
    return rgb.quantize(32) if mode == "P" else rgb.convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpegs() -> Iterator[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x010E] = "described"
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            for sampling in (0, 1, 2):
                for options in ({}, {"restart_marker_blocks": 2}, {"optimize": True}):
                    kind = f"jpeg {mode} {progressive} {sampling} {options}"
                    yield (
                        kind,
                        encoded(picture(mode), "JPEG", progressive=progressive, subsampling=sampling, **options),
                    )
    yield "jpeg kept as RGB", encoded(picture(), "JPEG", keep_rgb=True)
    rich = encoded(
        picture(), "JPEG", exif=exif, icc_profile=b"i" * 150_000, comment=b"c" * 300, xmp=b"<x/>", dpi=(9, 9)
    )
    yield "jpeg with all beside it", rich
    yield "jpeg with its end, then anything", rich + b"\xff\xda\xff\xc0PK\3\4" + bytes(1000)
    scan = rich.index(b"\xff\xda")
    yield "jpeg with fill bytes", rich[:2] + b"\xff" * 50 + rich[2:scan] + b"\xff" * 9 + rich[scan:]
    yield "jpeg, two pictures", encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=9)])
    yield "jpeg without a JFIF header", rich[:2] + rich[20:]
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"  # RGB as it is, and all the colours wrong
    yield "jpeg of Adobe's", rich[:2] + adobe + rich[20:]


def pngs() -> Iterator[tuple[str, bytes]]:
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 500, zip=True)
    text.add_itxt("c", "d" * 500, zip=True)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield f"png {mode}", encoded(picture(mode), "PNG", pnginfo=text, icc_profile=b"i" * 900, dpi=(9, 9))
    for bits in (1, 2, 4):
        yield f"png of {bits} bits", encoded(picture().quantize(2**bits), "PNG", bits=bits)
    yield "png, one colour transparent", encoded(picture("P"), "PNG", transparency=3)
    yield "png, colours half transparent", encoded(picture("P"), "PNG", transparency=bytes(range(0, 250, 10)))
    yield "png, grey transparent", encoded(picture("L"), "PNG", transparency=17)
    yield "png, a colour transparent", encoded(picture(), "PNG", transparency=(1, 2, 3))
    frames = [picture("RGBA", seed=seed) for seed in (1, 2)]
    for first in (False, True):
        yield (
            f"png, animated {first}",
            encoded(picture("RGBA"), "PNG", save_all=True, append_images=frames, default_image=first),
        )
    for depth, colour, samples in ((8, 2, 3), (16, 2, 3), (16, 6, 4), (16, 4, 2), (1, 0, 1), (8, 3, 1)):
        yield f"png, interlaced {depth} {colour}", interlaced(depth, colour, samples)
    plain = encoded(picture(), "PNG")
    crumbs = b"".join(chunk(b"IDAT", plain[at : at + 7]) for at in range(41, plain.index(b"IEND") - 8, 7))
    yield "png in crumbs", plain[:33] + crumbs + chunk(b"IEND") + b"behind its end"


def interlaced(depth: int, colour: int, samples: int) -> bytes:
    """Adam7 passes of noise, filter none."""
    width, height = SIZE
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    random, rows = np.random.default_rng(1), b""
    for left, top, across, down in passes:
        columns = -(-(width - left) // across)
        for _ in range(top, height, down):
            rows += b"\0" + random.bytes(-(-columns * samples * depth // 8))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1))
    palette = chunk(b"PLTE", random.bytes(768)) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")


def gifs() -> Iterator[tuple[str, bytes]]:
    for mode in ("L", "P", "1"):
        for interlace in (0, 1):
            yield f"gif {mode} {interlace}", encoded(picture(mode), "GIF", interlace=interlace, comment=b"c" * 700)
    frames = [picture("P", seed=seed) for seed in (1, 2)]
    for disposal in range(4):
        yield (
            f"gif, animated {disposal}",
            encoded(
                picture("P"), "GIF", save_all=True, append_images=frames, disposal=disposal, transparency=2, loop=0
            ),
        )
    plain = encoded(picture("P"), "GIF", transparency=7)
    frame = plain.index(b",\0\0\0\0")
    moved = plain[:frame] + b"," + struct.pack("<HH", 5, 6) + plain[frame + 5 :]
    yield "gif, frame beyond its screen", moved
    yield "gif, large screen", moved[:6] + struct.pack("<HH", 200, 100) + moved[10:]
    yield "gif, plain text before its frame", plain[:frame] + b"!\x01\x0c" + bytes(12) + b"\3abc\0" + plain[frame:]


def webps() -> Iterator[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x010E] = "described"
    for mode in ("RGB", "RGBA"):
        for lossless in (False, True):
            for beside in ({}, {"exif": exif, "icc_profile": b"i" * 301, "xmp": b"<x/>"}):
                yield (
                    f"webp {mode} {lossless} {bool(beside)}",
                    encoded(picture(mode), "WEBP", lossless=lossless, **beside),
                )
    for mode in ("RGB", "RGBA"):
        frames = [picture(mode, seed=seed) for seed in (1, 2)]
        moving = encoded(picture(mode), "WEBP", save_all=True, append_images=frames, background=(9, 9, 9, 200))
        yield f"webp, animated {mode}", moving
        canvas = moving[:24] + (150).to_bytes(3, "little") + (90).to_bytes(3, "little") + moving[30:]
        yield f"webp, large canvas {mode}", canvas
        frame = canvas.index(b"ANMF") + 8
        yield f"webp, frame elsewhere {mode}", canvas[:frame] + b"\5\0\0\7\0\0" + canvas[frame + 6 :]


def bmps() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"bmp {mode}", encoded(picture(mode), "BMP")
    plain = encoded(picture(), "BMP")
    width, height = SIZE
    yield "bmp from its top", plain[:22] + struct.pack("<i", -height) + plain[26:]
    core = struct.pack("<IHHHH", 12, width, height, 1, 24)
    yield "bmp of OS/2", b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + core + plain[54:]
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 16, 3, 0, 0, 0, 0, 0)
    pixels = np.random.default_rng(3).bytes(height * (width * 2 + 2))
    yield "bmp of bit fields", b"BM" + struct.pack("<IHHI", 0, 0, 0, 66) + head + masks + pixels
    runs = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0) + b"\0\1\2\0" * 256
    lines = b"".join(bytes([30, row, width - 30, row + 1, 0, 0]) for row in range(height))
    yield "bmp of run lengths", b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + runs + lines + b"\0\1"


COMPRESSIONS = {
    None: ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B", "I", "F"),
    "tiff_lzw": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I", "F"),
    "tiff_adobe_deflate": ("L", "P", "RGB", "RGBA", "I;16", "F", "YCbCr"),
    "packbits": ("1", "L", "P", "RGB"),
    "jpeg": ("L", "RGB", "YCbCr", "CMYK"),
    "group3": ("1",),
    "group4": ("1",),
    "tiff_ccitt": ("1",),
    "lzma": ("RGB", "L"),
    "zstd": ("RGB", "L", "I;16"),
}


def tiffs() -> Iterator[tuple[str, bytes]]:
    for compression, modes in COMPRESSIONS.items():
        for mode in modes:
            for options in ({}, {"strip_size": 700}, {"big_tiff": True}):
                image = picture("RGB").convert("LAB") if mode == "LAB" else picture(mode)
                if mode == "I;16B" and "big_tiff" in options:
                    continue  # which Pillow writes wrongly
                kind = f"tiff {compression} {mode} {options}"
                yield kind, encoded(image, "TIFF", compression=compression, **options)
    for predictor in (2, 3):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[317] = predictor
        yield (
            f"tiff, predictor {predictor}",
            encoded(picture("F" if predictor == 3 else "RGB"), "TIFF", compression="tiff_lzw", tiffinfo=tags),
        )
    yield "tiff, two pages", encoded(picture(), "TIFF", save_all=True, append_images=[picture(seed=5)])
    exif = Image.Exif()
    exif[0x010E] = "described"
    exif.get_ifd(0x8769)[0x9286] = b"commented"
    yield "tiff with all beside it", encoded(picture(), "TIFF", exif=exif, icc_profile=b"i" * 900, dpi=(9, 9))
    for order in "<>":
        for planar in (1, 2):
            for tile in (None, (16, 32), (80, 48)):
                for packed in (False, True):
                    kind = f"tiff by hand {order} {planar} {tile} {packed}"
                    yield kind, by_hand(order, planar, tile, packed)
    yield "tiff by hand, big", by_hand("<", 1, (16, 16), packed=True, big=True)
    yield "tiff, bits from the right", by_hand("<", 1, None, False, {266: 2})
    fax = encoded(picture("1"), "TIFF", compression="group3", tiffinfo={292: 1})  # in two dimensions
    yield "tiff, fax in two dimensions", fax


def by_hand(
    order: str,
    planar: int,
    tile: tuple[int, int] | None,
    packed: bool,
    more: dict[int, int] | None = None,
    *,
    big: bool = False,
) -> bytes:
    """RGB in strips of 10 rows or in tiles, in one plane or three, raw or deflated."""
    pixels = np.asarray(picture())
    height, width = pixels.shape[:2]
    columns, rows = tile or (width, 10)
    padded = np.pad(pixels, ((0, -height % rows if tile else 0), (0, -width % columns), (0, 0)))
    parts = [
        np.ascontiguousarray(part).tobytes()
        for plane in (range(3) if planar == 2 else [slice(None)])
        for top in range(0, height, rows)
        for left in range(0, width, columns)
        for part in [padded[top : top + rows, left : left + columns, plane]]
    ]
    if packed:
        parts = [zlib.compress(part) for part in parts]
    tags = {256: [width], 257: [height], 258: [8, 8, 8], 259: [8 if packed else 1], 262: [2], 277: [3], 284: [planar]}
    tags |= {tag: [value] for tag, value in (more or {}).items()}
    tags |= {322: [columns], 323: [rows]} if tile else {278: [rows]}
    names = (324, 325) if tile else (273, 279)
    return tiff_file(order, tags, parts, names, big=big)


def tiff_file(
    order: str, tags: dict[int, list[int]], parts: list[bytes], names: tuple[int, int], *, big: bool = False
) -> bytes:
    """Longs only, the directory at the end."""
    start_form, count_form, entry_form, inline = ("Q", "Q", "HHQ", 8) if big else ("I", "H", "HHI", 4)
    body = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    body += struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(4)
    offsets = []
    for part in parts:
        offsets.append(len(body))
        body += part
    tags = tags | {names[0]: offsets, names[1]: [len(part) for part in parts]}
    lines, values = b"", b""
    head = struct.calcsize("=" + start_form)
    values_at = len(body) + struct.calcsize("=" + count_form) + struct.calcsize("=" + entry_form) * len(tags)
    values_at += inline * len(tags) + head
    for tag, numbers in sorted(tags.items()):
        value = struct.pack(f"{order}{len(numbers)}I", *numbers)
        lines += struct.pack(order + entry_form, tag, 4, len(numbers))
        if len(value) <= inline:
            lines += value.ljust(inline, b"\0")
        else:
            lines += struct.pack(order + start_form, values_at + len(values))
            values += value
    started = body[: 8 if big else 4] + struct.pack(order + start_form, len(body)) + body[16 if big else 8 :]
    return started + struct.pack(order + count_form, len(tags)) + lines + bytes(head) + values


ALL = {name: content for family in (jpegs, pngs, gifs, webps, bmps, tiffs) for name, content in family()}
