"""Boxes of the ISO base media format, as HEIC and AVIF have them: found with bounds, and written anew."""

import struct
from collections.abc import Iterator

from mtlora.images.container.bounds import broken, refuse_costly

MAX_BOXES = 4096  # side by side: properties of a picture in 200 tiles are some 20
_FULL_HEAD = 4  # version and flags


def boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and body of each box, side by side; the last may run to the end. `ImageError` where one lies beyond it."""
    position = number = 0
    while position + 8 <= len(data):
        number += 1
        if number > MAX_BOXES:
            refuse_costly("boxes of a HEIC or AVIF", MAX_BOXES)
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1 and position + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        elif size == 0:
            size = len(data) - position
        if size < head or position + size > len(data):
            raise broken(f"a box {kind!r} of {size} bytes at {position} of {len(data)}")
        yield kind, data[position + head : position + size]
        position += size


def box(kind: bytes, *parts: bytes | memoryview) -> bytes:
    """A box of these parts."""
    return b"".join([struct.pack(">I4s", 8 + sum(map(len, parts)), kind), *parts])


def full_box(kind: bytes, version: int, *parts: bytes | memoryview, flags: int = 0) -> bytes:
    """A box that begins with its version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


class Fields:
    """Numbers of a box, one after the other. `ImageError` where it ends before them."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        """The next unsigned number of so many bytes; of none: 0."""
        end = self._at + size
        if end > len(self._data):
            raise broken(f"a box of {len(self._data)} bytes ends within its numbers")
        value = int.from_bytes(self._data[self._at : end], "big")
        self._at = end
        return value

    def numbers(self, count: int, size: int) -> list[int]:
        """The next numbers of one size."""
        if self._at + count * size > len(self._data):
            raise broken(f"{count} numbers of {size} bytes in a box of {len(self._data)}")
        return [self.number(size) for _ in range(count)]

    def version(self) -> tuple[int, int]:
        """Version and flags, with which many boxes begin."""
        head = self.number(_FULL_HEAD)
        return head >> 24, head & 0xFFFFFF

    def part(self, size: int) -> memoryview:
        """The next so many bytes."""
        if self._at + size > len(self._data):
            raise broken(f"{size} bytes in a box of {len(self._data)}")
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> memoryview:
        """What was not read."""
        return self._data[self._at :]


class Bits:
    """Bits of a stream's header, the highest of a byte first. `ImageError` where it ends before them."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def number(self, bits: int) -> int:
        """The next so many bits as an unsigned number."""
        self._left -= bits
        if self._left < 0:
            raise broken("a stream's header ends within its numbers")
        return self._value >> self._left & ((1 << bits) - 1)

    def exponential(self) -> int:
        """The next number of an exponential Golomb code."""
        zeros = 0
        while not self.number(1):
            zeros += 1
            if zeros > 32:  # no number of a header has more
                raise broken("a stream's header has a number of more than 32 bits")
        return (1 << zeros) - 1 + self.number(zeros)
