"""A writer of PNG files for maps: several times as fast as a general one, because it never tries out what to do.

Every row is stored as its difference to what the Paeth predictor expects (filter type 4), which of enlarged maps leaves
little but zeros, and packed by runs and Huffman codes alone. Without native code it is stored as its difference to the
row above (filter type 2) and packed by ISA-L at its level 1 (docs/experiments.md).
"""

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from mtlora.errors import ImageError
from mtlora.native import kernels

Rows = NDArray[np.uint8]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _INDEXED = 0, 2, 3  # colour types of the PNG specification, section 11.2.2
_UP = 2  # filter type, section 9.2
_ZLIB_HEAD = b"\x78\x01"  # deflate, a window of 32 KiB, packed fast: RFC 1950
_BLOCK_HEAD_BYTES = 256
_LEVEL = 1
_ADLER = 65521
_BAND_BYTES = 1 << 18  # filtered at once: stays in the cache


@dataclass(frozen=True, slots=True)
class Stripe:
    """Some rows of a PNG, filtered and packed: a piece of the stream that the stripes below it go on with."""

    chunks: bytes
    checksum: int  # Adler-32 of the filtered rows
    size: int  # of the filtered rows, bytes


@dataclass(frozen=True, slots=True)
class Png:
    """A PNG in the pieces it was made in; `stripes` from the top."""

    head: bytes
    stripes: tuple[Stripe, ...]

    def file(self) -> bytes:
        """The whole file."""
        checksum = 1
        for stripe in self.stripes:
            checksum = _joined_checksum(checksum, stripe)
        ends = _chunk(b"IDAT", struct.pack(">I", checksum)) + _chunk(b"IEND", b"")
        return b"".join([self.head, _chunk(b"IDAT", _ZLIB_HEAD), *(stripe.chunks for stripe in self.stripes), ends])


def png_file(pixels: Pixels, palette: bytes = b"", text: Mapping[str, str] | None = None) -> bytes:
    """A PNG file of 8-bit grey or class indices [H, W], 8-bit colours [H, W, 3] or 16-bit grey [H, W].

    palette: red, green, blue of each index in turn; given, [H, W] are indices
    text:    Latin-1 keywords and what they say, as tEXt chunks
    """
    return png(pixels, palette, text).file()


def png(pixels: Pixels, palette: bytes = b"", text: Mapping[str, str] | None = None) -> Png:
    """`png_file` of one stripe."""
    color_type = _color_type(pixels, palette)
    height, width = pixels.shape[:2]
    network_order = pixels.astype(">u2") if pixels.dtype == np.uint16 else pixels
    rows = np.ascontiguousarray(network_order).view(np.uint8).reshape(height, -1)
    stripe = pack(rows, rows.shape[1] // width, 0, height, last=True)
    return Png(_head(width, height, 8 * pixels.itemsize, color_type, palette, text or {}), (stripe,))


def color_png(width: int, height: int, stripes: Sequence[Stripe]) -> Png:
    """A PNG of 8-bit colours whose rows are packed already."""
    return Png(_head(width, height, 8, _RGB, b"", {}), tuple(stripes))


def pack(rows: Rows, pixel_bytes: int, top: int, bottom: int, *, last: bool) -> Stripe:
    """Rows `top` to `bottom` of rows uint8 [H, bytes] as a stripe; the row above them counts too.

    last: whether the picture ends there
    """
    native = kernels()
    if native is None:
        return _pack_plainly(rows, top, bottom, last=last)
    address, row_bytes = rows.ctypes.data, rows.shape[1]
    return native_stripe(
        lambda out, checksum: native.pack_rows(address, out, checksum, top, bottom, row_bytes, pixel_bytes, last),
        bottom - top,
        row_bytes,
    )


def native_stripe(run: Callable[[int, int], int], count: int, row_bytes: int) -> Stripe:
    """What a kernel packs, in one call: after each a thread has to wait for the interpreter.

    run: from the addresses of packed bytes and of a checksum to the number of bytes (see native/src/png.hpp)
    """
    size, checksum = count * (row_bytes + 1), ctypes.c_uint32()
    out = np.empty(2 * size + _BLOCK_HEAD_BYTES, np.uint8)
    used = run(out.ctypes.data, ctypes.addressof(checksum))
    if used < 0:
        raise MemoryError(f"no memory to pack {count} rows of {row_bytes} bytes")
    return Stripe(_chunk(b"IDAT", out[:used].tobytes()), checksum.value, size)


def _head(width: int, height: int, depth: int, color_type: int, palette: bytes, text: Mapping[str, str]) -> bytes:
    chunks = [_SIGNATURE, _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))]
    if palette:
        chunks.append(_chunk(b"PLTE", palette))
    for keyword, value in text.items():
        chunks.append(_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1")))
    return b"".join(chunks)


def _color_type(pixels: Pixels, palette: bytes) -> int:
    if pixels.size and pixels.ndim == 2 and pixels.dtype == np.uint8:
        return _INDEXED if palette else _GREY
    if pixels.size and not palette:
        if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
            return _RGB
        if pixels.ndim == 2 and pixels.dtype == np.uint16:
            return _GREY
    shown = f"{pixels.dtype} {list(pixels.shape)}{', with a palette' if palette else ''}"
    raise ImageError(f"a PNG map is uint8 [H, W], uint8 [H, W, 3] or uint16 [H, W], and not empty; got {shown}")


def _pack_plainly(rows: Rows, top: int, bottom: int, *, last: bool) -> Stripe:
    """By numpy and ISA-L."""
    packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    above = rows[top - 1] if top else np.zeros(rows.shape[1], np.uint8)
    packed, checksum = [], 1
    step = max(1, _BAND_BYTES // rows.shape[1])
    for begin in range(top, bottom, step):
        band = rows[begin : min(begin + step, bottom)]
        filtered = np.empty((len(band), rows.shape[1] + 1), np.uint8)
        filtered[:, 0] = _UP
        np.subtract(band[0], above, out=filtered[0, 1:])
        np.subtract(band[1:], band[:-1], out=filtered[1:, 1:])
        checksum, above = isal_zlib.adler32(filtered, checksum), band[-1]
        packed.append(packer.compress(filtered))
    packed.append(packer.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_SYNC_FLUSH))
    return Stripe(_chunk(b"IDAT", b"".join(packed)), checksum, (bottom - top) * (rows.shape[1] + 1))


def _joined_checksum(before: int, stripe: Stripe) -> int:
    """Adler-32 of what gave `before` and of the stripe behind it: two sums modulo 65521 (RFC 1950, section 8.2)."""
    low = (before & 0xFFFF) + (stripe.checksum & 0xFFFF) - 1
    high = (before >> 16) + (stripe.checksum >> 16) + stripe.size * ((before & 0xFFFF) - 1)
    return high % _ADLER << 16 | low % _ADLER


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
