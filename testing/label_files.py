"""Files of labels that Pillow reads but does not write."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def grey_png(indices: NDArray[np.uint8], bits: int) -> bytes:
    """A grey PNG of 1, 2, 4 or 8 bits a pixel; `indices`: uint8 [H, W], below 2**bits."""
    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    ones = np.unpackbits(indices[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in ones)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
