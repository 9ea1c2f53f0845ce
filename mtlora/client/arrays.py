"""Arrays of a .npz file: plain numbers only. Nothing in their headers is evaluated, nothing is unpickled."""

import math
import re
import struct
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlora.client.archive import Archive, Entry
from mtlora.vocabulary.shown import shown

ENDING = ".npy"
_MAGIC = b"\x93NUMPY"
_LENGTHS = {1: struct.Struct("<H"), 2: struct.Struct("<I")}
_HEADER_BYTES = 1024
_HEADER = re.compile(
    rb"\{\s*'descr':\s*'([<|][biuf][1248])',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(([0-9, ]{0,200})\),?\s*\}\s*"
)
_SIDE = re.compile(rb"[1-9][0-9]{0,11}")
_MOST_DIMENSIONS = 4


def read_arrays(archive: Archive) -> dict[str, NDArray[Any]]:
    """All arrays, by name; `BadZipFile` for what is none."""
    odd = [name for name in archive.sizes if not name.endswith(ENDING)]
    if odd:
        raise zipfile.BadZipFile(f"{odd[0]} is no array")
    found = {}
    for name in archive.sizes:
        with archive.entry(name) as entry:
            found[name.removesuffix(ENDING)] = _read(entry)
    return found


def _read(entry: Entry) -> NDArray[Any]:
    header = _header(entry)
    match = _HEADER.fullmatch(header)
    if match is None:
        raise zipfile.BadZipFile(f"{entry.name} is no array of plain numbers: {shown(header.decode('latin-1'), 200)}")
    sides = [side.strip() for side in match[3].split(b",") if side.strip()]
    if not 1 <= len(sides) <= _MOST_DIMENSIONS or not all(map(_SIDE.fullmatch, sides)):
        raise zipfile.BadZipFile(f"{entry.name} has no shape of a map: ({match[3].decode('ascii')})")
    shape, kind = tuple(map(int, sides)), _kind(entry, match[1].decode("ascii"))
    if math.prod(shape) * kind.itemsize != entry.left:
        raise zipfile.BadZipFile(f"{entry.name}: {list(shape)} of {kind} are not {entry.left} bytes")
    turned = match[2] == b"True"
    array = np.empty(shape[::-1] if turned else shape, kind)
    entry.fill(memoryview(array.data).cast("B"))
    return array.T if turned else array


def _header(entry: Entry) -> bytes:
    begin = entry.take(len(_MAGIC) + 2)
    length = _LENGTHS.get(begin[-2])
    if not begin.startswith(_MAGIC) or length is None:
        raise zipfile.BadZipFile(f"{entry.name} begins with {begin!r}, not as an array does")
    (count,) = length.unpack(entry.take(length.size))
    if count > _HEADER_BYTES:
        raise zipfile.BadZipFile(f"{entry.name} has a header of {count} bytes; at most {_HEADER_BYTES}")
    return entry.take(count)


def _kind(entry: Entry, name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError as error:
        raise zipfile.BadZipFile(f"{entry.name} is of no known type: {name}") from error
