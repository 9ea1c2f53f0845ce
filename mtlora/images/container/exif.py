"""The orientation of a picture, from EXIF or XMP. What cannot be read is ignored; nothing here raises."""

import re
import struct
import zlib

UPRIGHT = 1
ORIENTATION_TAG = 0x0112
MAX_TEXT_BYTES = 1 << 20
"""Of a text, inflated."""

_TURNS = range(1, 9)
_ORDERS = {
    b"MM\0*": ">",
    b"II*\0": "<",
    b"MM*\0": ">",
    b"II\0*": "<",
}
_PREFIX = b"Exif\0\0"
_ENTRY_BYTES = 12
_MAX_ENTRIES = 5461  # 64 KiB of them
_FORMS = {3: "H", 4: "I"}
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_HEX_START = 3  # lines before the bytes of a raw profile: an empty one, its name, its length
_MAX_HEX = 2 * MAX_TEXT_BYTES


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """1 to 8: what the EXIF block says, or else what the XMP packet says; upright if neither says anything.

    exif: a TIFF file in small, with or without `Exif` and two zero bytes before it
    """
    found = _from_exif(exif)
    return known(found if found is not None else from_xmp(xmp))


def known(value: int) -> int:
    """The orientation if it is one of the standard's; else upright."""
    return value if value in _TURNS else UPRIGHT


def from_xmp(xmp: bytes) -> int:
    """The digit behind the first `tiff:Orientation`, as attribute or as element; 0 if there is none."""
    match = _XMP.search(xmp[:MAX_TEXT_BYTES])
    return int(match[1]) if match else 0


def from_hex(text: bytes) -> bytes:
    """The block that a PNG's text `Raw profile type exif` holds in hexadecimal digits; empty if it holds none."""
    digits = b"".join(text[:_MAX_HEX].split(b"\n", _HEX_START)[_HEX_START:])
    try:
        return bytes.fromhex(digits.decode("latin-1"))
    except ValueError:
        return b""


def inflated(packed: bytes) -> bytes:
    """The beginning of a deflated text, at most a megabyte; empty if it is none."""
    try:
        return zlib.decompressobj().decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _from_exif(exif: bytes) -> int | None:
    start = next(length for length in (2, 1, 0) if exif.startswith(_PREFIX * length)) * len(_PREFIX)
    order = _ORDERS.get(exif[start : start + 4])
    if order is None or len(exif) < start + 8:
        return None
    (offset,) = struct.unpack_from(order + "I", exif, start + 4)
    directory = exif[start + offset : start + offset + 2 + _MAX_ENTRIES * _ENTRY_BYTES]
    if len(directory) < 2:
        return None
    (count,) = struct.unpack_from(order + "H", directory)
    entries = directory[2 : 2 + count * _ENTRY_BYTES]
    whole = len(entries) // _ENTRY_BYTES * _ENTRY_BYTES
    for tag, kind, number, value in struct.iter_unpack(order + "HHI4s", entries[:whole]):
        if tag == ORIENTATION_TAG and kind in _FORMS and number == 1:
            return int(struct.unpack_from(order + _FORMS[kind], value)[0])
    return None
