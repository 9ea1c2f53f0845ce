"""The safetensors header, parsed as hostile text: sizes are checked before anything is read or believed.

Layout of the file: 8 bytes N (unsigned, little endian), N bytes of JSON, then the tensors' bytes without a gap.
Nothing here reads a tensor, and nothing allocates more than the header's own size times a small constant.
"""

import json
import re
from dataclasses import dataclass
from math import prod
from typing import Any

from mtlora.vocabulary.errors import AdapterFileError, SpecError

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 8 * 2**20  # the largest set a spec allows needs under 4 MiB
MAX_METADATA_BYTES = 2**20
MAX_DIMENSIONS = 8
MAX_LISTED_PROBLEMS = 2000

CONVERSION = "docs/conversion.md says what `mtlora convert` makes adapter sets of"
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""Beginnings of torch's two containers. A small length may begin so too; theirs is far beyond the limit."""
_PEFT = re.compile(r"^base_model\.model\.|\.lora_[AB]\.(?:\w+\.)?weight$|\.lora_magnitude_vector")

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
"""Number types a tensor may be stored in, and their size."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: `begin` and `end` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header whose entries tile the data exactly: no hole, no overlap, no rest."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    data_start: int  # byte of the file where the first tensor begins


def header_length(prefix: bytes, file_bytes: int, source: str) -> int:
    """Length N from the first eight bytes, checked against the file's real size."""
    if len(prefix) < LENGTH_BYTES:
        raise AdapterFileError(f"{source}: {len(prefix)} bytes are too few for a safetensors file")
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES and prefix.startswith(_PICKLES):
        raise AdapterFileError(f"{source}: this is a PyTorch checkpoint, no safetensors file; {CONVERSION}")
    if length > MAX_HEADER_BYTES:
        raise AdapterFileError(
            f"{source}: header says {length} bytes, the limit is {MAX_HEADER_BYTES}: no safetensors file"
        )
    if length < 2 or LENGTH_BYTES + length > file_bytes:
        raise AdapterFileError(f"{source}: header says {length} bytes, but the file has {file_bytes} in all")
    return length


def parse_header(text: bytes, file_bytes: int, source: str) -> Header:
    """Parse the N header bytes of a file of `file_bytes` bytes; `AdapterFileError` lists every fault."""
    raw = parse_json(text, source)
    problems: list[str] = []
    metadata = _metadata(raw.pop("__metadata__", {}), problems)
    entries: dict[str, Entry] = {}
    for name, value in raw.items():
        if isinstance(entry := _entry(value), Entry):
            entries[name] = entry
        else:
            problems.append(f"{clip(name)}: {entry}")
    data_start = LENGTH_BYTES + len(text)
    if not problems:
        problems += _tiling(entries, file_bytes - data_start)
    raise_if(problems, f"{source}: header is not valid")
    return Header(entries, metadata, data_start)


def raise_if(problems: list[str], summary: str) -> None:
    """Raise `AdapterFileError` with all problems, or return if there are none."""
    if problems:
        rest = len(problems) - MAX_LISTED_PROBLEMS
        shown = problems[:MAX_LISTED_PROBLEMS] + ([f"and {rest} more"] if rest > 0 else [])
        raise AdapterFileError(summary, shown)


def clip(name: str) -> str:
    """A name from a stranger's file, safe to show: control characters escaped, at most 120 characters."""
    shown = name[:120].encode("unicode_escape").decode("ascii")
    return shown if len(name) <= 120 else f"{shown}… ({len(name)} characters)"


def parse_json(text: bytes, source: str) -> dict[str, Any]:
    """The header's bytes as the JSON object that they must be; what is in it is not looked at."""
    try:
        if not text.startswith(b"{"):
            raise ValueError(f"begins with {text[:1]!r}, not with '{{'")
        raw = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise AdapterFileError(f"{source}: header is not JSON: {clip(str(error))}") from None
    return dict(raw)


class _TwiceError(ValueError):
    """Readers differ in which of two values of one key counts."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(f"the key {clip(key)!r} occurs twice")
        found[key] = value
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _metadata(value: object, problems: list[str]) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        problems.append("__metadata__: must be an object whose values are texts")
        return {}
    size = sum(len(key) + len(item) for key, item in value.items())
    if size > MAX_METADATA_BYTES:
        problems.append(f"__metadata__: {size} characters, the limit is {MAX_METADATA_BYTES}")
        return {}
    return value


def _entry(value: object) -> Entry | str:
    """One tensor's entry, or what is wrong with it."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        return "must have exactly dtype, shape and data_offsets"
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        return f"dtype must be one of {', '.join(ITEM_BYTES)}, got {clip(repr(dtype))}"
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        return f"shape must be up to {MAX_DIMENSIONS} whole numbers from 0, got {clip(repr(shape))}"
    if not _naturals(offsets) or len(offsets) != 2:
        return f"data_offsets must be two whole numbers from 0, got {clip(repr(offsets))}"
    begin, end = offsets
    needed = prod(shape) * ITEM_BYTES[dtype]
    if end - begin != needed:
        return f"shape {clip(repr(shape))} as {dtype} needs {clip(str(needed))} bytes, data_offsets give {end - begin}"
    return Entry(dtype, tuple(shape), begin, end)


def _naturals(value: object) -> bool:
    """A list of integers in 0..2^63-1 (JSON's true and 1.0 are none)."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _tiling(entries: dict[str, Entry], data_bytes: int) -> list[str]:
    """Faults of how the entries cover the data: each must begin where the one before ends."""
    problems: list[str] = []
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            fault = "overlaps the tensor before" if entry.begin < position else "leaves a hole before it"
            problems.append(f"{clip(name)}: begins at {entry.begin}, expected {position}: {fault}")
        position = max(position, entry.end)
    if position != data_bytes:
        problems.append(f"tensors take {position} bytes, the file holds {data_bytes} after its header")
    return problems


def manifest_text(header: Header, key: str, source: str) -> str:
    """The manifest's JSON text from the metadata, in which no key occurs twice; what it says is for others to check."""
    try:
        text = header.metadata[key]
    except KeyError:
        if any(_PEFT.search(name) for name in header.entries):
            raise AdapterFileError(
                f"{source}: this is an adapter of PEFT, not an adapter set of MTLoRA; it cannot be converted, "
                f"as its scaling and what it adapts are not in the file; {CONVERSION}"
            ) from None
        known = ", ".join(clip(name) for name in header.metadata) or "nothing"
        raise AdapterFileError(f"{source}: no {key!r} in the metadata, which has {known}: not an adapter set") from None
    try:
        json.loads(text, object_pairs_hook=_unique)
    except _TwiceError as error:
        raise AdapterFileError(f"{source}: the manifest is not valid", [str(error)]) from None
    except (ValueError, RecursionError):
        return text  # no JSON: whoever parses it says why
    return text


def invalid_manifest(source: str, error: SpecError) -> AdapterFileError:
    """The error of a manifest that is JSON of something else, or of an impossible set."""
    return AdapterFileError(f"{source}: the manifest is not valid", str(error).split("; "))
