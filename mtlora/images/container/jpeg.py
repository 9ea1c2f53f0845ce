"""JPEG: the tables, the frame and the scans of the first picture, up to its end; what follows is not read."""

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from mtlora.images.container.bounds import Container, broken, check_size, decoded_bytes, refuse_costly
from mtlora.images.container.exif import orientation
from mtlora.images.container.profile import MAX_PROFILE_BYTES, from_icc
from mtlora.vocabulary.errors import ImageFormatError

MAX_JPEG_SEGMENTS = 4096  # a colour profile may take 255, and each scan a few
MAX_JPEG_SCANS = 100  # encoders write up to some 20
MAX_JPEG_PASSES = 24  # over samples, as a multiple of the largest photo's pixels; full colour by the usual script: 14
MAX_JPEG_TABLE_BYTES = 1 << 16  # of quantization before the first scan, read by an interpreted loop; four are 520

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # behind a segment; what is no marker there is skipped
_SCAN_END = re.compile(rb"\xff[\xc0-\xcf\xd8-\xef\xfe]")  # behind a scan's header: its data has other bytes behind 0xff
_START, _END, _SCAN, _QUANTIZATION = 0xD8, 0xD9, 0xDA, 0xDB
_TABLES = {0xC4, 0xCC, _QUANTIZATION, 0xDD}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}
_ARITHMETIC = {*range(0xC9, 0xD0)}
_NOTES = {*range(0xE0, 0xF0), 0xFE, 0xDC}
_ALONE = ((0xE0, b"JFIF\0", 14), (0xEE, b"Adobe", 12))  # what decoders read colours by: marker, beginning, bytes of it
_PROFILE = b"ICC_PROFILE\0"  # then its number and how many there are
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_SEGMENTS_OF_STREAM = 16  # of a strip or tile in another file: a few are usual
_BLOCK = 8
_COEFFICIENTS = 64
_NOT_SENT = 16  # bits of a coefficient that are missing: all
_NOISE = bytes(
    (178 + 101 * place) % 251 for place in range(251)
)  # begins with a one: where data ends, decoders read zeros
_LINES = 4  # bands of blocks that a decoder holds for each component


@dataclass(frozen=True, slots=True)
class _Frame:
    marker: int
    width: int
    height: int
    components: list[tuple[int, int]]  # name and samples, padded to whole blocks
    rows: int  # of one band of blocks

    def samples(self, names: bytes | None = None) -> int:
        """Of the named components, or of all."""
        return sum(samples for name, samples in self.components if names is None or name in names)


@dataclass(slots=True)
class _Picture:
    """What was found so far."""

    data: bytes
    max_pixels: int
    parts: list[bytes | memoryview] = field(default_factory=list)
    frame: _Frame | None = None
    segments: int = 0
    most_segments: int = MAX_JPEG_SEGMENTS
    scans: int = 0
    passes: int = 0  # samples that scans go over
    missing: dict[int, list[int]] = field(default_factory=dict)  # bits of each coefficient, by component
    is_buffered: bool = False  # all coefficients are held until the last scan
    table_bytes: int = 0
    exif: bytes = b""
    xmp: bytes = b""
    profile: dict[int, bytes] = field(default_factory=dict)  # parts by number
    profile_bytes: int = 0


def read_jpeg(data: bytes, max_pixels: int) -> Container:
    """The first picture of a file, whatever follows it: films, other pictures, archives."""
    picture = _Picture(data, max_pixels, [data[:2]])
    is_whole = _walk(picture)
    frame = picture.frame
    if frame is None or not picture.scans:
        raise broken(f"no picture begins in a JPEG of {len(data)} bytes")
    if not is_whole:
        picture.parts[-1] = bytes(picture.parts[-1]).rstrip(b"\xff")  # half a marker
    can_end = is_whole or _is_complete(picture, frame)
    probe = (
        b"" if is_whole or not can_end else b"".join([*picture.parts, _filler(bytes(picture.parts[-1])), b"\xff\xd9"])
    )
    if can_end:
        picture.parts.append(b"\xff\xd9")
    extra = _LINES * frame.rows * frame.width * len(frame.components) + 2 * frame.samples() * picture.is_buffered
    return Container(
        b"".join(picture.parts),
        orientation(picture.exif, picture.xmp),
        frame.width,
        frame.height,
        decoded_bytes(frame.width, frame.height, extra) * (2 if probe else 1),
        probe,
        _profile(picture, frame),
    )


def check_streams(data: bytes, spans: Iterable[tuple[int, int]], max_pixels: int) -> int:
    """Errors as of `read_jpeg` for JPEG streams inside another file, bounded together as the parts of one picture.

    spans:   where they begin and end
    returns: how many bytes a decoder holds beside the pixels of one of them
    """
    held = passes = segments = 0
    most = MAX_JPEG_SEGMENTS
    for start, end in spans:
        picture = _Picture(data[start:end], max_pixels, passes=passes, segments=segments, most_segments=most)
        _walk(picture)
        passes, segments, most = picture.passes, picture.segments, most + _SEGMENTS_OF_STREAM
        held = max(held, 2 * picture.frame.samples() if picture.frame is not None and picture.is_buffered else 0)
    return held


def _walk(picture: _Picture) -> bool:
    """From marker to marker; whether the picture's end was there."""
    data, position, scan_start = picture.data, 2, 0
    view = memoryview(data)
    while picture.segments < picture.most_segments:
        picture.segments += 1
        match = (_SCAN_END if scan_start else _MARKER).search(data, position)
        start = match.start() if match else len(data)
        if scan_start:
            picture.parts.append(view[scan_start:start])
        if match is None or data[start + 1] == _END:
            return match is not None
        end = start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))
        _take(picture, data[start + 1], start, end)
        scan_start = end if data[start + 1] == _SCAN else 0
        position = end
    refuse_costly("JPEG segments", picture.most_segments)
    return False


def _take(picture: _Picture, marker: int, start: int, end: int) -> None:
    """One segment: kept, noted or left out."""
    if end > len(picture.data):
        raise broken(f"a JPEG of {len(picture.data)} bytes ends in its segment {marker:#x}")
    body = memoryview(picture.data)[start + 4 : end]
    if marker in _FRAMES:
        if picture.frame is not None:
            raise broken("a second frame in one JPEG picture")
        picture.frame = _frame(marker, bytes(body[:32]), len(body), picture.max_pixels)
    elif marker == _SCAN:
        _count_scan(picture, bytes(body[:16]))
    elif marker in _NOTES:
        if not picture.scans:
            _note(picture, marker, bytes(body))
        return
    elif marker not in _TABLES:
        raise broken(f"JPEG marker {marker:#x}")
    elif marker == _QUANTIZATION and not picture.scans:
        picture.table_bytes += len(body)
        if picture.table_bytes > MAX_JPEG_TABLE_BYTES:
            refuse_costly(f"{picture.table_bytes} bytes of JPEG tables", MAX_JPEG_TABLE_BYTES)
    picture.parts.append(memoryview(picture.data)[start:end])


def _frame(marker: int, body: bytes, length: int, max_pixels: int) -> _Frame:
    if length < 6:
        raise broken(f"a JPEG frame's header of {length} bytes")
    bits, height, width, number = struct.unpack_from(">BHHB", body)
    check_size(width, height, max_pixels)
    if bits != 8:
        raise ImageFormatError(f"this is a JPEG of {bits} bits a colour; only 8 are read: export it as JPEG of 8 bits")
    factors = [(body[at], body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, min(length - 2, 6 + 3 * 4), 3)]
    is_sane = number in range(1, 5) and length == 6 + 3 * number
    if not is_sane or not all(1 <= factor <= 4 for _, *both in factors for factor in both):
        raise broken(f"a JPEG frame's header of {number} components")
    across, down = max(columns for _, columns, _ in factors), max(rows for _, _, rows in factors)
    units = -(-width // (_BLOCK * across)) * -(-height // (_BLOCK * down))
    samples = [(name, units * columns * rows * _BLOCK * _BLOCK) for name, columns, rows in factors]
    return _Frame(marker, width, height, samples, _BLOCK * down)


def _count_scan(picture: _Picture, head: bytes) -> None:
    frame = picture.frame
    if frame is None:
        raise broken("a JPEG scan before its frame")
    names = head[1 : 1 + 2 * head[0] : 2] if head else b""
    picture.scans += 1
    picture.passes += frame.samples(names)
    _note_bits(picture, names, head[1 + 2 * len(names) :])
    picture.is_buffered |= frame.marker in _PROGRESSIVE or len(names) < len(frame.components)
    if picture.scans > MAX_JPEG_SCANS:
        refuse_costly("JPEG scans", MAX_JPEG_SCANS)
    if picture.passes > MAX_JPEG_PASSES * max(picture.max_pixels, 1 << 20):
        refuse_costly(f"JPEG scans of {frame.width} x {frame.height} pixels", picture.scans - 1)


def _note_bits(picture: _Picture, names: bytes, span: bytes) -> None:
    """What a scan brings: from which coefficient, to which, down to which bit."""
    if len(span) < 3:
        return
    first, last, bit = span[0], min(span[1], _COEFFICIENTS - 1), span[2] & 15
    for name in names:
        bits = picture.missing.setdefault(name, [_NOT_SENT] * _COEFFICIENTS)
        bits[first : last + 1] = [bit] * max(0, last + 1 - first)


def _is_complete(picture: _Picture, frame: _Frame) -> bool:
    """Whether a picture without an end has all its scans, so that only pixels at the end of the last may be missing.

    Of arithmetic coding that cannot be told: trailing zeros may be left out.
    """
    if frame.marker in _ARITHMETIC:
        return False
    return all(not any(picture.missing.get(name, [_NOT_SENT])) for name, _ in frame.components)


def _filler(scan: bytes) -> bytes:
    """Other bytes than an encoder would write next, to be read instead of pixels that are missing from a scan.

    They begin with the restart marker that would come next: others are passed over.
    """
    places = [scan.rfind(bytes([0xFF, 0xD0 + number])) for number in range(8)]
    following = 0 if max(places) < 0 else places.index(max(places)) + 1
    turns = [(following + number) % 8 for number in range(16)]
    return _NOISE * 4 + b"".join(bytes([0xFF, 0xD0 + turn]) + _NOISE for turn in turns)


def _note(picture: _Picture, marker: int, body: bytes) -> None:
    for kind, beginning, length in _ALONE:
        if marker == kind and body.startswith(beginning) and len(body) >= length:
            picture.parts.append(struct.pack(">BBH", 0xFF, kind, 2 + length) + body[:length])
    if marker == 0xE1 and not picture.exif and body.startswith(_EXIF):
        picture.exif = body
    elif marker == 0xE1 and body.startswith(_XMP):
        picture.xmp = body[len(_XMP) :]
    elif marker == 0xE2 and body.startswith(_PROFILE) and len(body) > len(_PROFILE) + 2:
        part = body[len(_PROFILE) + 2 :]
        picture.profile_bytes += len(part)
        if picture.profile_bytes <= MAX_PROFILE_BYTES:
            picture.profile.setdefault(body[len(_PROFILE)], part)


def _profile(picture: _Picture, frame: _Frame) -> bytes:
    """Of colours or grey; that of inks is not applied."""
    if picture.profile_bytes > MAX_PROFILE_BYTES:
        return b""
    whole = b"".join(picture.profile[number] for number in sorted(picture.profile))
    return from_icc(whole) if len(frame.components) != 4 else b""
