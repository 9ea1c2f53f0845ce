"""A writer of PNG files for maps: several times as fast as a general one, because it never tries out what to do.

Every row is stored as its difference to what the Paeth predictor expects (filter type 4), which of enlarged maps leaves
little but zeros, and packed by runs and Huffman codes alone. Without native code it is stored as its difference to the
row above (filter type 2) and packed by ISA-L at its level 1 (docs/experiments.md).
"""

import struct
from collections.abc import Iterator, Mapping

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from mtlora.errors import ImageError
from mtlora.native import Kernels, kernels

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _INDEXED = 0, 2, 3  # colour types of the PNG specification, section 11.2.2
_UP = 2  # filter type, section 9.2
_ZLIB_HEAD = b"\x78\x01"  # deflate, a window of 32 KiB, packed fast: RFC 1950
_BLOCK_HEAD_BYTES = 256
_LEVEL = 1
_BAND_BYTES = 1 << 18  # filtered at once: stays in the cache


def png_file(pixels: Pixels, palette: bytes = b"", text: Mapping[str, str] | None = None) -> bytes:
    """A PNG file of 8-bit grey or class indices [H, W], 8-bit colours [H, W, 3] or 16-bit grey [H, W].

    palette: red, green, blue of each index in turn; given, [H, W] are indices
    text:    Latin-1 keywords and what they say, as tEXt chunks
    """
    color_type = _color_type(pixels, palette)
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color_type, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header)]
    if palette:
        chunks.append(_chunk(b"PLTE", palette))
    for keyword, value in (text or {}).items():
        chunks.append(_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1")))
    network_order = pixels.astype(">u2") if pixels.dtype == np.uint16 else pixels
    rows = np.ascontiguousarray(network_order).view(np.uint8).reshape(height, -1)
    native = kernels()
    packed = _packed(rows) if native is None else _packed_natively(rows, rows.shape[1] // width, native)
    chunks += [_chunk(b"IDAT", part) for part in packed if part]
    return b"".join([_SIGNATURE, *chunks, _chunk(b"IEND", b"")])


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


def _packed(rows: NDArray[np.uint8]) -> Iterator[bytes]:
    """Parts of a zlib stream of rows uint8 [H, bytes], each behind its filter type."""
    packer = isal_zlib.compressobj(_LEVEL)
    for above, part in _bands(rows):
        band = np.empty((len(part), rows.shape[1] + 1), np.uint8)
        band[:, 0] = _UP
        np.subtract(part[0], above, out=band[0, 1:])
        np.subtract(part[1:], part[:-1], out=band[1:, 1:])
        yield packer.compress(band)
    yield packer.flush()


def _packed_natively(rows: NDArray[np.uint8], pixel_bytes: int, native: Kernels) -> Iterator[bytes]:
    """The same by the kernels `filter_rows` and `deflate`, one block for each band."""
    checksum, left = 1, len(rows)
    yield _ZLIB_HEAD
    for above, part in _bands(rows):
        band = np.empty((len(part), rows.shape[1] + 1), np.uint8)
        native.filter_rows(part.ctypes.data, above.ctypes.data, band.ctypes.data, *part.shape, pixel_bytes)
        checksum, left = isal_zlib.adler32(band, checksum), left - len(part)
        packed = np.empty(band.size * 3 // 2 + _BLOCK_HEAD_BYTES, np.uint8)
        size = native.deflate(band.ctypes.data, packed.ctypes.data, band.size, left == 0)
        yield packed[:size].tobytes()
    yield struct.pack(">I", checksum)


def _bands(rows: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """The row above, and some rows."""
    step = max(1, _BAND_BYTES // rows.shape[1])
    above = np.zeros(rows.shape[1], np.uint8)
    for top in range(0, len(rows), step):
        part = rows[top : top + step]
        yield above, part
        above = part[-1]


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
