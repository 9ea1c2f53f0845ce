"""Directories of TIFF files: classic and big ones, in either byte order; tags read with bounds, and written anew."""

import struct
from dataclasses import dataclass

from mtlora.images.container.bounds import broken, refuse_costly
from mtlora.vocabulary.errors import ImageError

TIFF_PREFIXES = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
    b"MM*\0": (">", False),  # wrong, and read by many
    b"II\0*": ("<", False),
}
"""How a file begins: byte order, whether its offsets have 64 bits."""

MAX_TIFF_TAGS = 4096
LONG = 4
_INTEGERS = {3: "H", LONG: "I", 16: "Q"}
_BYTES = {1: 1, 7: 1, 5: 8, 3: 2}  # kinds that are copied as they are: bytes, rationals, shorts


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a directory: where a tag's values are."""

    kind: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Directory:
    """The first directory of a file, each tag once: the first of its kind counts, as decoders have it."""

    data: bytes
    order: str  # of bytes, as of `struct`
    entries: dict[int, Entry]

    def numbers(self, tag: int, most: int) -> tuple[int, ...]:
        """The values of a tag of whole numbers, as far as the bound; none if it is not there."""
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        form = _INTEGERS.get(entry.kind)
        if form is None or entry.count < 1:
            raise ImageError(f"the image cannot be read: TIFF tag {tag} has type {entry.kind}, {entry.count} values")
        count = min(entry.count, most)
        try:
            return struct.unpack_from(f"{self.order}{count}{form}", self.data, entry.offset)
        except (struct.error, OverflowError):  # the latter for an offset beyond any file
            raise broken(f"{count} values of TIFF tag {tag} at {entry.offset} of {len(self.data)} bytes") from None

    def number(self, tag: int, default: int) -> int:
        """The value of a tag that has one."""
        return next(iter(self.numbers(tag, 1)), default)

    def copy(self, tag: int, most: int) -> tuple[int, int, bytes] | None:
        """Kind, count and bytes of a tag, as they are; None if it is not there or of no known kind."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _BYTES:
            return None
        size = entry.count * _BYTES[entry.kind]
        if size > most:
            refuse_costly(f"{size} bytes of TIFF tag {tag}", most)
        return entry.kind, entry.count, self.data[entry.offset : entry.offset + size]


def read_directory(data: bytes) -> Directory:
    """The first one. `ImageError` if it does not lie in the file."""
    order, is_big = TIFF_PREFIXES[data[:4]]
    start_form, count_form, entry_form, inline = ("Q", "Q", "HHQ", 8) if is_big else ("I", "H", "HHI", 4)
    try:
        (start,) = struct.unpack_from(order + start_form, data, 8 if is_big else 4)
        (count,) = struct.unpack_from(order + count_form, data, start)
    except (struct.error, OverflowError):
        raise broken(f"a TIFF of {len(data)} bytes without a directory") from None
    if count > MAX_TIFF_TAGS:
        refuse_costly("TIFF tags", MAX_TIFF_TAGS)
    entries: dict[int, Entry] = {}
    head = struct.Struct(order + entry_form)
    position = start + struct.calcsize(order + count_form)
    for _ in range(count):
        value_at = position + head.size
        if value_at + inline > len(data):
            raise broken(f"a TIFF directory of {count} tags at {start} of {len(data)} bytes")
        tag, kind, number = head.unpack_from(data, position)
        if tag not in entries:
            entries[tag] = Entry(kind, number, _offset(data, order, kind, number, value_at, inline))
        position = value_at + inline
    return Directory(data, order, entries)


def _offset(data: bytes, order: str, kind: int, count: int, value_at: int, inline: int) -> int:
    """Where values are: in the entry itself if they fit."""
    size = _BYTES.get(kind) or struct.calcsize("=" + _INTEGERS.get(kind, "B"))
    if size * count <= inline:
        return value_at
    (offset,) = struct.unpack_from(order + ("Q" if inline == 8 else "I"), data, value_at)
    return int(offset)


def with_directory(data: bytes, order: str, tags: dict[int, tuple[int, int, bytes]]) -> bytes:
    """The file with another directory, at its end: classic, the only one, of these tags (kind, count, bytes)."""
    start = len(data) + (len(data) & 1)
    values_at = start + 2 + 12 * len(tags) + 4
    if values_at + sum(len(value) for _, _, value in tags.values()) + len(tags) >= 2**32:
        refuse_costly(f"a TIFF of {len(data)} bytes", 2**32)
    head = [b"II*\0" if order == "<" else b"MM\0*", struct.pack(order + "I", start)]
    lines, values = [struct.pack(order + "H", len(tags))], []
    for tag in sorted(tags):
        kind, count, value = tags[tag]
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack(order + "I", values_at)
            values.append(value + b"\0" * (len(value) & 1))
            values_at += len(values[-1])
        lines.append(struct.pack(order + "HHI4s", tag, kind, count, place))
    return b"".join([*head, memoryview(data)[8:], b"\0" * (len(data) & 1), *lines, b"\0\0\0\0", *values])


def packed(order: str, kind: int, values: tuple[int, ...]) -> tuple[int, int, bytes]:
    """Whole numbers as a tag's value."""
    try:
        return kind, len(values), struct.pack(f"{order}{len(values)}{_INTEGERS[kind]}", *values)
    except struct.error:
        raise broken(f"a TIFF tag has values up to {max(values)}") from None
