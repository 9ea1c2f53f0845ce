"""WebP: a still picture, or the first frame of an animation on its canvas."""

import struct

from mtlora.images.container.bounds import Container, broken, check_size, decoded_bytes, refuse_costly
from mtlora.images.container.exif import orientation
from mtlora.images.container.profile import MAX_PROFILE_BYTES, from_icc

MAX_WEBP_CHUNKS = 65_536  # frames are chunks; EXIF lies behind them
FREE_CANVAS = 4 << 20
"""Pixels of a canvas, whatever the size of the first frame on it."""
MAX_CANVAS_SHARE = 64
"""Of a larger canvas, in pixels of the first frame."""

_PICTURE = (b"VP8 ", b"VP8L")
_NEEDED = {*_PICTURE, b"VP8X", b"ALPH", b"ANIM", b"ANMF"}
_PROFILE_FLAG, _ALPHA_FLAG, _EXIF_FLAG, _XMP_FLAG, _ANIMATION_FLAG = 0x20, 0x10, 0x08, 0x04, 0x02
_FRAME_HEAD = 16
_COPIES = 20  # bytes a pixel beside the picture: two canvases, the frame handed over, the frame's own decoder
_MAX_NOTE = 1 << 20  # of EXIF or XMP that is looked at

_Chunks = dict[bytes, memoryview]
_Parts = list[tuple[bytes, bytes | memoryview]]


def read_webp(data: bytes, max_pixels: int) -> Container:
    """The first picture of a WebP file."""
    end = min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    chunks = _first_of_each(memoryview(data)[:end], 12)
    head = chunks.get(b"VP8X", memoryview(b""))
    if data[12:16] != b"VP8X":
        return _plain(chunks, max_pixels)
    if len(head) < 10:
        raise broken(f"a WebP header of {len(head)} bytes")
    flags = head[0]
    width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (4, 7))
    check_size(width, height, max_pixels)
    parts: _Parts = [(b"VP8X", bytes([flags & (_ALPHA_FLAG | _ANIMATION_FLAG), 0, 0, 0]) + head[4:10])]
    if flags & _ANIMATION_FLAG:
        parts += _animation(chunks, width, height)
    else:
        parts += _picture(chunks)
    turn = orientation(*(bytes(_note(chunks, kind, flags)[:_MAX_NOTE]) for kind in (b"EXIF", b"XMP ")))
    profile = chunks.get(b"ICCP", b"") if flags & _PROFILE_FLAG else b""
    return Container(
        _riff(parts),
        turn,
        width,
        height,
        decoded_bytes(width, height, _COPIES * width * height),
        profile=from_icc(bytes(profile[: MAX_PROFILE_BYTES + 1])),
    )


def _plain(chunks: _Chunks, max_pixels: int) -> Container:
    """A file of one chunk, whose header has the size."""
    kind, body = _picture(chunks)[-1]
    width, height = _size(kind, body)
    check_size(width, height, max_pixels)
    extra = _COPIES * width * height
    return Container(_riff([(kind, body)]), 1, width, height, decoded_bytes(width, height, extra))


def _size(kind: bytes, body: bytes | memoryview) -> tuple[int, int]:
    if len(body) < 10:
        raise broken(f"a WebP picture of {len(body)} bytes")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    (bits,) = struct.unpack_from("<I", body, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _picture(chunks: _Chunks) -> _Parts:
    """Alpha if there is any, and colours."""
    kind = next((kind for kind in chunks if kind in _PICTURE), None)
    if kind is None:
        raise broken("a WebP file without a picture")
    alpha: _Parts = [(b"ALPH", chunks[b"ALPH"])] if b"ALPH" in chunks and kind == b"VP8 " else []
    return [*alpha, (kind, chunks[kind])]


def _animation(chunks: _Chunks, width: int, height: int) -> _Parts:
    """One frame of it."""
    frame, background = chunks.get(b"ANMF"), chunks.get(b"ANIM")
    if frame is None or background is None or len(frame) < _FRAME_HEAD:
        raise broken("a WebP animation without a frame")
    columns, rows = (int.from_bytes(frame[at : at + 3], "little") + 1 for at in (6, 9))
    if width * height > max(FREE_CANVAS, MAX_CANVAS_SHARE * columns * rows):
        refuse_costly(
            f"a WebP canvas of {width} x {height} pixels around a first frame of {columns} x {rows}",
            f"{MAX_CANVAS_SHARE} times the frame",
        )
    inside = _riff(_picture(_first_of_each(frame, _FRAME_HEAD)))[12:]
    return [(b"ANIM", background[:6]), (b"ANMF", bytes(frame[:_FRAME_HEAD]) + inside)]


def _note(chunks: _Chunks, kind: bytes, flags: int) -> memoryview:
    """EXIF or XMP, if the header says that it is there: decoders overlook it otherwise."""
    is_there = flags & (_EXIF_FLAG if kind == b"EXIF" else _XMP_FLAG)
    return chunks.get(kind, memoryview(b"")) if is_there else memoryview(b"")


def _first_of_each(data: memoryview, position: int) -> _Chunks:
    found: _Chunks = {}
    for _ in range(MAX_WEBP_CHUNKS):
        if position + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        position += 8
        if kind not in found and kind in _NEEDED and position + length > len(data):
            raise broken(f"{len(data) - position} of {length} bytes of the WebP chunk {kind.decode()}")
        found.setdefault(kind, data[position : position + length])
        position += length + (length & 1)
    return found


def _riff(parts: _Parts) -> bytes:
    """A whole file of these chunks."""
    pieces: list[bytes | memoryview] = [b"RIFF", b"\0\0\0\0", b"WEBP"]
    for kind, body in parts:
        pieces += [kind, struct.pack("<I", len(body)), body, b"\0" * (len(body) & 1)]
    pieces[1] = struct.pack("<I", sum(map(len, pieces)) - 8)
    return b"".join(pieces)
