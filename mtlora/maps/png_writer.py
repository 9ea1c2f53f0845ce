"""A writer of PNG files for maps: several times as fast as a general one, because it never tries alternatives.

Every row is stored as its difference to what the Paeth predictor expects (filter type 4), which of enlarged maps leaves
little but zeros, or to the row above (filter type 2) where few bytes of it differ, and packed by runs and Huffman codes
alone. Without native code it is always stored as its difference to the row above and packed by ISA-L at its level 1
(docs/experiments/images.md).
"""

import ctypes
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from mtlora.kernels import Kernels, kernels
from mtlora.kernels.interface import BAND_BYTES, BLOCK_ROOM_BYTES
from mtlora.vocabulary.errors import ImageError
from mtlora.vocabulary.stopping import Check, never

Rows = NDArray[np.uint8]
Fill = Callable[[int, int, NDArray[Any]], None]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _INDEXED = 0, 2, 3  # colour types of the PNG specification, section 11.2.2
_UP = 2  # filter type, section 9.2
_ZLIB_HEAD = b"\x78\x01"  # deflate, a window of 32 KiB, packed fast: RFC 1950
_LEVEL = 1
_ADLER = 65521
_CALL_BYTES = 1 << 22  # packed in one call


@dataclass(frozen=True, slots=True)
class Stripe:
    """Some rows of a PNG, filtered and packed: a piece of the stream that the stripes below it go on with."""

    packed: tuple[bytes, ...]
    checksum: int  # Adler-32 of the filtered rows
    size: int  # of the filtered rows, bytes


@dataclass(frozen=True, slots=True)
class Png:
    """A PNG in the pieces it was made in; `stripes` from the top."""

    head: bytes
    stripes: tuple[Stripe, ...]

    def pieces(self) -> list[bytes]:
        """The file, one piece after the other; nothing is copied."""
        checksum, pieces = 1, [self.head, *_chunk(b"IDAT", _ZLIB_HEAD)]
        for stripe in self.stripes:
            checksum = _joined_checksum(checksum, stripe)
            pieces += _chunk(b"IDAT", *stripe.packed)
        return [*pieces, *_chunk(b"IDAT", struct.pack(">I", checksum)), *_chunk(b"IEND")]

    def file(self) -> bytes:
        """The whole file."""
        return b"".join(self.pieces())


def png_file(pixels: Pixels, palette: bytes = b"", text: Mapping[str, str] | None = None) -> bytes:
    """A PNG file of 8-bit grey or class indices [H, W], 8-bit colours [H, W, 3] or 16-bit grey [H, W].

    palette: red, green, blue of each index in turn; given, [H, W] are indices
    text:    Latin-1 keywords and what they say, as tEXt chunks
    """
    return png(pixels, palette, text).file()


def png(pixels: Pixels, palette: bytes = b"", text: Mapping[str, str] | None = None) -> Png:
    """`png_file` of one stripe."""

    def fill(top: int, bottom: int, out: NDArray[Any]) -> None:
        out[...] = pixels[top:bottom]

    return banded_png(fill, pixels.shape, pixels.dtype, palette=palette, text=text)


def banded_png(
    fill: Fill,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    palette: bytes = b"",
    text: Mapping[str, str] | None = None,
    check: Check = never,
) -> Png:
    """`png` of pixels that are made band by band: there is never more than some rows of them.

    fill: (top, bottom, out) writes the rows from `top` to before `bottom` to out [bottom - top, W] or [.., W, 3]
    """
    color_type = _color_type(shape, dtype, palette)
    height, width = shape[:2]
    pixel_bytes = math.prod(shape[2:]) * dtype.itemsize
    in_order = dtype.newbyteorder(">")

    def fill_bytes(top: int, bottom: int, out: Rows) -> None:
        fill(top, bottom, out.view(in_order).reshape(bottom - top, *shape[1:]))

    stripe = pack_filled(fill_bytes, width * pixel_bytes, pixel_bytes, 0, height, height=height, check=check)
    return Png(_head(width, height, 8 * dtype.itemsize, color_type, palette, text or {}), (stripe,))


def color_png(width: int, height: int, stripes: Sequence[Stripe]) -> Png:
    """A PNG of 8-bit colours whose rows are packed already."""
    return Png(_head(width, height, 8, _RGB, b"", {}), tuple(stripes))


def bands_to_pack(top: int, bottom: int, row_bytes: int, row_work: int = 0) -> Iterator[tuple[int, int]]:
    """Where to cut rows so that packing a band takes some hundredths of a second, and the stream is the same as uncut.

    row_work: what making a row costs where that is more than to pack it, in bytes packed meanwhile
    """
    rows = max(1, BAND_BYTES // row_bytes)
    rows *= max(1, _CALL_BYTES // (rows * max(row_bytes, row_work)))
    for begin in range(top, bottom, rows):
        yield begin, min(begin + rows, bottom)


def pack(rows: Rows, pixel_bytes: int, top: int, bottom: int, *, last: bool) -> Stripe:
    """Rows `top` to `bottom` of rows uint8 [H, bytes] as a stripe; the row above them counts too.

    last: whether the picture ends there
    """
    packing = packing_of(rows.shape[1], pixel_bytes)
    for begin, end in bands_to_pack(top, bottom, rows.shape[1]):
        packing.add(rows, begin, end, last=last and end == bottom)
    return packing.stripe()


def pack_filled(
    fill: Callable[[int, int, Rows], None],
    row_bytes: int,
    pixel_bytes: int,
    top: int,
    bottom: int,
    *,
    height: int,
    check: Check = never,
) -> Stripe:
    """`pack` of rows of a picture of `height` rows that are made band by band: `fill` as of `banded_png`, of bytes."""
    packing, bands = packing_of(row_bytes, pixel_bytes), list(bands_to_pack(top, bottom, row_bytes))
    rows = np.zeros((1 + bands[0][1] - bands[0][0], row_bytes), np.uint8)  # the first is the one above
    if top:
        fill(top - 1, top, rows[:1])
    for begin, end in bands:
        check()
        count = end - begin
        fill(begin, end, rows[1 : 1 + count])
        packing.add(rows, 1, 1 + count, last=end == height)
        rows[0] = rows[count]
    return packing.stripe()


def packing_of(row_bytes: int, pixel_bytes: int) -> "NativePacking | PlainPacking":
    """Nothing packed yet."""
    native = kernels()
    return PlainPacking(row_bytes) if native is None else NativePacking(native, row_bytes, pixel_bytes)


class NativePacking:
    """A stripe in the making, by the kernels."""

    def __init__(self, native: Kernels, row_bytes: int, pixel_bytes: int) -> None:
        self._native = native
        self._row_bytes = row_bytes
        self._pixel_bytes = pixel_bytes
        self._room: Rows = np.empty(0, np.uint8)
        self._stripe = Stripe((), 1, 0)
        self._packed: list[bytes] = []

    def add(self, rows: Rows, top: int, bottom: int, *, last: bool) -> None:
        """Pack rows `top` to `bottom` of C-contiguous rows, behind those that were added before."""
        address, sizes = rows.ctypes.data, (self._row_bytes, self._pixel_bytes)
        self.run(
            lambda out, checksum: self._native.pack_rows(address, out, checksum, top, bottom, *sizes, last),
            bottom - top,
        )

    def run(self, kernel: Callable[[int, int], int], count: int) -> None:
        """Add what a kernel packs, `count` rows: in few calls, for after each a thread has to wait for the interpreter.

        kernel: from the addresses of packed bytes and of a checksum to the number of bytes (see kernels/src/png.hpp)
        """
        size, checksum = count * (self._row_bytes + 1), ctypes.c_uint32()
        if self._room.size < 2 * size + BLOCK_ROOM_BYTES:
            self._room = np.empty(2 * size + BLOCK_ROOM_BYTES, np.uint8)
        used = kernel(self._room.ctypes.data, ctypes.addressof(checksum))
        if used < 0:
            raise MemoryError(f"no memory to pack {count} rows of {self._row_bytes} bytes")
        self._packed.append(self._room[:used].tobytes())
        together = _joined_checksum(self._stripe.checksum, Stripe((), checksum.value, size))
        self._stripe = Stripe((), together, self._stripe.size + size)

    def stripe(self) -> Stripe:
        """All that was added."""
        return replace(self._stripe, packed=tuple(self._packed))


class PlainPacking:
    """A stripe in the making, by numpy and ISA-L."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
        self._packed: list[bytes] = []
        self._checksum = 1
        self._size = 0
        self._ended = False

    def add(self, rows: Rows, top: int, bottom: int, *, last: bool) -> None:
        """As of `NativePacking`."""
        above = rows[top - 1] if top else np.zeros(self._row_bytes, np.uint8)
        step = max(1, BAND_BYTES // self._row_bytes)
        for begin in range(top, bottom, step):
            band = rows[begin : min(begin + step, bottom)]
            filtered = np.empty((len(band), self._row_bytes + 1), np.uint8)
            filtered[:, 0] = _UP
            np.subtract(band[0], above, out=filtered[0, 1:])
            np.subtract(band[1:], band[:-1], out=filtered[1:, 1:])
            self._checksum, above = isal_zlib.adler32(filtered, self._checksum), band[-1]
            self._packed.append(self._packer.compress(filtered))
        self._size += (bottom - top) * (self._row_bytes + 1)
        self._ended = last

    def stripe(self) -> Stripe:
        """All that was added."""
        end = self._packer.flush(isal_zlib.Z_FINISH if self._ended else isal_zlib.Z_SYNC_FLUSH)
        return Stripe((*self._packed, end), self._checksum, self._size)


def _head(width: int, height: int, depth: int, color_type: int, palette: bytes, text: Mapping[str, str]) -> bytes:
    about = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    chunks = [_SIGNATURE, *_chunk(b"IHDR", about)]
    if palette:
        chunks += _chunk(b"PLTE", palette)
    for keyword, value in text.items():
        chunks += _chunk(b"tEXt", keyword.encode("latin-1"), b"\0", value.encode("latin-1"))
    return b"".join(chunks)


def _color_type(shape: tuple[int, ...], dtype: np.dtype[Any], palette: bytes) -> int:
    some = math.prod(shape) > 0
    if some and len(shape) == 2 and dtype == np.uint8:
        return _INDEXED if palette else _GREY
    if some and not palette:
        if len(shape) == 3 and shape[2] == 3 and dtype == np.uint8:
            return _RGB
        if len(shape) == 2 and dtype == np.uint16:
            return _GREY
    shown = f"{dtype} {list(shape)}{', with a palette' if palette else ''}"
    raise ImageError(f"a PNG map is uint8 [H, W], uint8 [H, W, 3] or uint16 [H, W], and not empty; got {shown}")


def _joined_checksum(before: int, stripe: Stripe) -> int:
    """Adler-32 of what gave `before` and of the stripe behind it: two sums modulo 65521 (RFC 1950, section 8.2)."""
    low = (before & 0xFFFF) + (stripe.checksum & 0xFFFF) - 1
    high = (before >> 16) + (stripe.checksum >> 16) + stripe.size * ((before & 0xFFFF) - 1)
    return high % _ADLER << 16 | low % _ADLER


def _chunk(kind: bytes, *data: bytes) -> list[bytes]:
    check = isal_zlib.crc32(kind)
    for piece in data:
        check = isal_zlib.crc32(piece, check)
    return [struct.pack(">I", sum(map(len, data))) + kind, *data, struct.pack(">I", check)]
