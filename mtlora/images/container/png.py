"""PNG: the header, palette and transparency, the first run of pixel chunks."""

import struct
from dataclasses import dataclass, field

from mtlora.images.container.bounds import Container, broken, check_size, decoded_bytes, refuse_costly
from mtlora.images.container.exif import from_hex, inflated, orientation
from mtlora.images.container.profile import MAX_PROFILE_BYTES, from_codes, from_deflated

MAX_PNG_CHUNKS = 20_000  # 50 megapixels in chunks of 8 KiB are some 6,000
_HEADER_BYTES = 13
_MAX_PALETTE = {b"PLTE": 768, b"tRNS": 256}
_END = b"\0\0\0\0IEND\xaeB`\x82"
_COLOURS = {b"iCCP", b"cICP"}
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_RAW_EXIF = b"Raw profile type exif"
_XMP = b"XML:com.adobe.xmp"
_MAX_NOTE = 2 << 20  # bytes of EXIF or of a text that are looked at
_LONGEST_LINE = 8 * 65_535  # bytes: four colours of 16 bits
_LINES = 4  # that the decoder holds


@dataclass(slots=True)
class _Chunks:
    """What counts of a file, each the last of its kind, as the decoder takes them."""

    header: bytes = b""
    palette: dict[bytes, bytes] = field(default_factory=dict)
    pixels: list[tuple[int, int]] = field(default_factory=list)  # from, to
    is_whole: bool = True  # all of the last chunk is there
    notes: dict[bytes, bytes] = field(default_factory=dict)  # kind or keyword -> bytes that say how it is held


def read_png(data: bytes, max_pixels: int) -> Container:
    """The still picture of a PNG, animated or not."""
    chunks = _chunks(data)
    if not chunks.header:
        raise broken("a PNG without its header")
    width, height = struct.unpack_from(">II", chunks.header, 8)
    check_size(width, height, max_pixels)
    if not chunks.pixels:
        raise broken("a PNG without pixels")
    view = memoryview(data)
    parts: list[bytes | memoryview] = [
        data[:8],
        chunks.header,
        *(chunks.palette[kind] for kind in sorted(chunks.palette)),
    ]
    parts += [view[start:end] for start, end in chunks.pixels]
    if chunks.is_whole:
        parts.append(_END)  # else it would be taken for pixels
    return Container(
        b"".join(parts),
        _orientation(chunks.notes),
        width,
        height,
        decoded_bytes(width, height, _LINES * _LONGEST_LINE),
        profile=_profile(chunks.notes),
    )


def _chunks(data: bytes) -> _Chunks:
    found = _Chunks()
    position, steps, is_run_over = 8, 0, False
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = min(position + 12 + length, len(data))
        steps += 1
        if steps > MAX_PNG_CHUNKS:
            refuse_costly("PNG chunks", MAX_PNG_CHUNKS)
        if kind == b"IEND":
            break
        if kind == b"IDAT" and not is_run_over:
            _extend(found.pixels, position, end)
            found.is_whole = position + 12 + length <= len(data)
        elif kind != b"IDAT":
            is_run_over = bool(found.pixels)
            _keep(found, kind, data, position, end)
        position = end
    return found


def _extend(runs: list[tuple[int, int]], start: int, end: int) -> None:
    if runs and runs[-1][1] == start:
        runs[-1] = runs[-1][0], end
    else:
        runs.append((start, end))


def _keep(found: _Chunks, kind: bytes, data: bytes, start: int, end: int) -> None:
    body = slice(start + 8, max(start + 8, min(end - 4, start + 8 + _MAX_NOTE)))
    if kind == b"IHDR" and not found.header:
        if end - start != _HEADER_BYTES + 12:
            raise broken(f"a PNG header of {end - start - 12} bytes")
        found.header = data[start:end]
    elif kind in _MAX_PALETTE and not found.pixels:
        if end - start - 12 > _MAX_PALETTE[kind]:
            raise broken(f"{end - start - 12} bytes of {kind.decode()}")
        found.palette[kind] = data[start:end]
    elif kind in _COLOURS and not found.pixels:
        found.notes[kind] = data[start + 8 : min(end - 4, start + 8 + MAX_PROFILE_BYTES)]
    elif kind == b"eXIf":
        found.notes[kind] = data[body]
    elif kind in _TEXTS:
        keyword, _, _ = data[body.start : min(body.stop, body.start + 80)].partition(b"\0")
        if keyword in {_RAW_EXIF, _XMP}:
            found.notes[keyword] = kind + data[body]


def _profile(notes: dict[bytes, bytes]) -> bytes:
    codes, packed = notes.get(b"cICP", b""), notes.get(b"iCCP", b"")
    if len(codes) == 4:
        return from_codes(codes[0], codes[1])
    name, _, rest = packed.partition(b"\0")
    return from_deflated(rest[1:]) if rest[:1] == b"\0" and len(name) < 80 else b""


def _orientation(notes: dict[bytes, bytes]) -> int:
    exif = notes.get(b"eXIf")
    if exif is None:
        exif = from_hex(_text(notes.get(_RAW_EXIF, b"")))
    return orientation(exif, _text(notes.get(_XMP, b"")))


def _text(chunk: bytes) -> bytes:
    """What a text chunk says, its kind before it; empty if it says nothing."""
    kind, (_, _, text) = chunk[:4], chunk[4:].partition(b"\0")
    if kind == b"zTXt":
        return inflated(text[1:])
    if kind != b"iTXt":
        return text
    is_packed, names = text[:1] != b"\0", text[2:].split(b"\0", 2)
    text = names[2] if len(names) == 3 else b""
    return inflated(text) if is_packed else text
