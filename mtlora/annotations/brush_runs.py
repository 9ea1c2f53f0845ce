"""Label Studio's brush format: a mask as bit-packed runs over red, green, blue and alpha of each pixel.

A head: values (32 bits), bits of a value less one (5), and four sizes of run lengths, less one (4 each). Then pieces: a
bit, which of the sizes (2), a length less one; behind 1 comes the value that is repeated, behind 0 so many values. The
rest of the last byte is 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlora.annotations.box_runs import row_runs
from mtlora.vocabulary.errors import DataError

CHANNELS = 4  # all of one value
RUN_BITS = (3, 4, 8, 16)  # of a run's length less one: the least that suffices is taken
_INSIDE = 255
_WORD_BITS, _LEAST_RUN, _MOST_RUN = 8, 1, 1 << RUN_BITS[-1]
_HEAD_BITS = 32 + 5 + 4 * 4


def brush_runs(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask, bool [H, W], as the bytes of the format; uint8 [N]."""
    lengths, values = row_runs(inside)
    lengths = lengths * CHANNELS
    times = -(-lengths // _MOST_RUN)  # longer ones are several
    split = np.full(int(times.sum()), _MOST_RUN)
    split[np.cumsum(times) - 1] = lengths - (times - 1) * _MOST_RUN
    values = np.repeat(values, times)
    size = np.searchsorted(1 << np.array(RUN_BITS), split)
    bits = np.array(RUN_BITS)[size]
    code = (((4 + size) << bits) + split - _LEAST_RUN << _WORD_BITS) + np.where(values, _INSIDE, 0)
    head = [(inside.size * CHANNELS, 32), (_WORD_BITS - 1, 5), *((one - 1, 4) for one in RUN_BITS)]
    codes = np.concatenate([[value for value, _ in head], code]).astype(np.uint64)
    return _packed(codes, np.concatenate([[size for _, size in head], 3 + bits + _WORD_BITS]))


def read_brush_runs(values: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a mask, bool [H, W]: those with any alpha. `DataError` where the runs are of another size.

    values: the bytes of the format, 0..255
    """
    if not all(isinstance(value, int) and 0 <= value <= 255 for value in values):
        raise DataError("brush run lengths are a list of whole numbers from 0 to 255")
    bits = _Bits(bytes(values))
    total, word = bits.number(32), bits.number(5) + 1
    if total != height * width * CHANNELS:
        raise DataError(f"brush run lengths of {total} values, but {width} x {height} pixels have {CHANNELS} each")
    sizes = [bits.number(4) + 1 for _ in range(4)]
    out = np.zeros(total, np.bool_)
    at = 0
    while at < total:
        is_run, length = bits.number(1), bits.number(sizes[bits.number(2)]) + 1
        if length > total - at:
            raise DataError(f"brush run lengths go beyond their {total} values: {length} more at {at}")
        if is_run:
            out[at : at + length] = bits.number(word) != 0
        else:
            out[at : at + length] = [bits.number(word) != 0 for _ in range(length)]
        at += length
    return out.reshape(height, width, CHANNELS)[:, :, CHANNELS - 1]


class _Bits:
    """Numbers out of bytes, the highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        """The next `size` bits; `DataError` where they have ended."""
        first, self._at = self._at, self._at + size
        if self._at > 8 * len(self._data):
            raise DataError(f"brush run lengths end after {len(self._data)} bytes, before their last pixel")
        last = -(-self._at // 8)
        window = int.from_bytes(self._data[first // 8 : last], "big")
        return window >> (8 * last - self._at) & ((1 << size) - 1)


def _packed(codes: NDArray[np.uint64], bits: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers of so many bits each, one after the other, the highest bit first."""
    places = np.arange(int(bits.max()) - 1, -1, -1)
    table = (codes[:, None] >> places.astype(np.uint64) & 1).astype(np.uint8)
    return np.packbits(table[places < bits[:, None]])
