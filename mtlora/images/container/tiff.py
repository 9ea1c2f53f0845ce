"""TIFF: a directory of the tags that decoders need, then strips or tiles that cover the picture once."""

from dataclasses import dataclass

from mtlora.images.container import exif
from mtlora.images.container.bounds import Container, broken, check_size, decoded_bytes, refuse_costly
from mtlora.images.container.jpeg import check_streams
from mtlora.images.container.profile import MAX_PROFILE_BYTES, from_icc
from mtlora.images.container.tiff_tags import (
    LONG,
    TIFF_PREFIXES,
    Directory,
    packed,
    read_directory,
    with_directory,
)
from mtlora.vocabulary.errors import ImageError

__all__ = ["TIFF_PREFIXES", "read_tiff"]

MAX_TIFF_PARTS = 32_768  # strips or tiles: a tile of 64 x 64 px makes 12,000 of 50 megapixels
MAX_TILE_SIDE = 4096  # or the picture's, where that is longer
MAX_TILED_PIXELS = 2  # as a multiple of the largest photo: what tiles have beyond the picture's edge is decoded too
MAX_READINGS = 2  # of the file's bytes: parts may lie in one place, and each is decoded

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_STRIPS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_PLANAR, _PALETTE, _EXTRA, _FORMATS, _XMP = 284, 320, 338, 339, 700
_SCALARS = {_COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES, _PLANAR, 317, 512, 515, 531}  # shorts
_LISTS = {_BITS, _EXTRA, _FORMATS}  # a short for each sample
_COPIES = {347: 1 << 16, 529: 24, 530: 4, 532: 48}  # bytes: JPEG tables; colours of luminance and chrominance
_FAX_OPTIONS = (292, 293)  # longs
_OLD_JPEG = {513: 1, 514: 1, 519: 4, 520: 4, 521: 4}  # longs: where its stream and its tables are
_SHORT = 3
_BYTE, _SHORT_BITS = 8, 16
_RAW, _OLD_JPEG_COMPRESSION, _JPEG = 1, 6, 7
_COLOURS = 768
_MAX_SAMPLES = 6
_MAX_BITS = 64
_SUBSAMPLED = 6  # photometric interpretation: fewer colours than pixels
_WHITE_IS_ZERO, _PALETTE_COLOURS, _LUMINANCE = 0, 3, 6
_PROFILE = 34675
_COPIES_OF_PART = 3  # as stored, as handed over, and one for predictors or another order of bits
_MAX_NOTE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Parts:
    """Strips or tiles."""

    width: int
    height: int
    number: int  # that cover the picture
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]  # in bytes, as stored; empty where decoders do not look
    is_tiled: bool


def read_tiff(data: bytes, max_pixels: int) -> Container:
    """The first picture of a file, under a directory of its own."""
    directory = read_directory(data)
    width, height = directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)
    check_size(width, height, max_pixels)
    samples, bits = _depth(directory)
    planes = samples if directory.number(_PLANAR, 1) == 2 else 1
    parts = _parts(directory, width, height, planes)
    _check_area(parts, width, height, max_pixels)
    held = _check_bytes(directory, parts, max_pixels)
    is_luminance = directory.number(_PHOTOMETRIC, 0) == _LUMINANCE
    part_bytes = parts.width * parts.height * (-(-samples * bits // 8) + 2 * is_luminance)
    extra = _COPIES_OF_PART * part_bytes + held
    turn = exif.known(_orientation(directory))
    content = with_directory(data, directory.order, _tags(directory, parts, width, height))
    return Container(
        content,
        turn,
        width,
        height,
        decoded_bytes(width, height, extra),
        profile=_profile(directory),
        deepest=_deepest(directory, samples, bits),
    )


def _depth(directory: Directory) -> tuple[int, int]:
    """Samples of a pixel, and bits of the deepest."""
    is_jpeg = directory.number(_COMPRESSION, _RAW) in {_JPEG, _OLD_JPEG_COMPRESSION}
    samples = directory.number(_SAMPLES, 3 if is_jpeg else 1)
    bits = max(directory.numbers(_BITS, _MAX_SAMPLES + 1), default=1)
    if samples > _MAX_SAMPLES or bits > _MAX_BITS:
        raise ImageError(
            f"the image cannot be read: a TIFF of {samples} samples of {bits} bits a pixel; "
            f"at most {_MAX_SAMPLES} of {_MAX_BITS} are read"
        )
    return samples, bits


def _parts(directory: Directory, width: int, height: int, planes: int) -> _Parts:
    is_raw = directory.number(_COMPRESSION, _RAW) == _RAW
    has_tiles = {_TILE_WIDTH, _TILE_HEIGHT, _TILES} <= directory.entries.keys()
    is_tiled = has_tiles and not (is_raw and _STRIPS in directory.entries)
    if is_tiled:
        columns, rows = directory.number(_TILE_WIDTH, 0), directory.number(_TILE_HEIGHT, 0)
    else:
        columns, rows = width, min(directory.number(_STRIP_ROWS, height), height)
    if columns < 1 or rows < 1:
        raise broken(f"TIFF parts of {columns} x {rows} pixels")
    number = -(-width // columns) * -(-height // rows) * planes
    kind, kind_bytes = (_TILES, _TILE_BYTES) if is_tiled else (_STRIPS, _STRIP_BYTES)
    if number > MAX_TIFF_PARTS:
        refuse_costly(f"{number} TIFF strips or tiles", MAX_TIFF_PARTS)
    offsets = directory.numbers(kind, MAX_TIFF_PARTS)
    if is_raw and number == 1:
        offsets = offsets[-1:]  # of several whole pictures the last one is what decoders show
    if len(offsets) < number:
        raise broken(f"{len(offsets)} of {number} strips or tiles of a TIFF")
    sizes = () if is_raw else directory.numbers(kind_bytes, MAX_TIFF_PARTS)
    if not is_raw and number == 1 and not sizes:
        sizes = (max(len(directory.data) - offsets[0], 0),)
    return _Parts(columns, rows, number, offsets[:number], sizes[:number], is_tiled)


def _check_area(parts: _Parts, width: int, height: int, max_pixels: int) -> None:
    if not parts.is_tiled:
        return
    for side, most in ((parts.width, width), (parts.height, height)):
        if side > max(MAX_TILE_SIDE, -(-most // 16) * 16):
            refuse_costly(f"TIFF tiles of {parts.width} x {parts.height} pixels", f"{MAX_TILE_SIDE} or the picture")
    most = MAX_TILED_PIXELS * max(max_pixels, MAX_TILE_SIDE**2)
    if parts.number * parts.width * parts.height > most:
        refuse_costly(f"{parts.number} TIFF tiles of {parts.width} x {parts.height} pixels", f"{most} pixels")


def _check_bytes(directory: Directory, parts: _Parts, max_pixels: int) -> int:
    """That parts lie in the file; how many bytes a decoder of JPEG parts holds beside their pixels."""
    size = len(directory.data)
    if max(parts.offsets) >= size:
        raise broken(f"a TIFF's pixels at {max(parts.offsets)} of {size} bytes")
    compression = directory.number(_COMPRESSION, _RAW)
    if compression == _RAW:
        _check_raw(directory, parts)
    if compression in {_RAW, _OLD_JPEG_COMPRESSION}:
        return 0
    if len(parts.sizes) < parts.number:
        raise broken(f"the sizes of {len(parts.sizes)} of {parts.number} strips or tiles of a TIFF")
    ends = [offset + length for offset, length in zip(parts.offsets, parts.sizes, strict=True)]
    if max(ends) > size:
        raise broken(f"a TIFF's pixels end at {max(ends)} of {size} bytes")
    if sum(parts.sizes) > MAX_READINGS * size:
        refuse_costly(f"TIFF strips or tiles of {sum(parts.sizes)} bytes in a file of {size}", MAX_READINGS * size)
    if compression != _JPEG:
        return 0
    return check_streams(directory.data, zip(parts.offsets, ends, strict=True), max_pixels)


def _check_raw(directory: Directory, parts: _Parts) -> None:
    """That pixels which are stored as they are end within the file: behind it lies a directory of ours."""
    if directory.number(_PHOTOMETRIC, 0) == _SUBSAMPLED:
        return
    bits = directory.numbers(_BITS, _MAX_SAMPLES) or (1,)
    samples = 1 if directory.number(_PLANAR, 1) == 2 else directory.number(_SAMPLES, 1)
    row_bytes = -(-parts.width * samples * min(bits) // 8)
    height, size = directory.number(_HEIGHT, 0), len(directory.data)
    down = -(-height // parts.height)
    across = 1 if not parts.is_tiled else -(-directory.number(_WIDTH, 0) // parts.width)
    for number, offset in enumerate(parts.offsets):
        row = number // across % down
        rows = parts.height if parts.is_tiled else min(parts.height, height - row * parts.height)
        if offset + rows * row_bytes > size:
            raise broken(f"a TIFF's pixels end at {offset + rows * row_bytes} of {size} bytes")


def _tags(directory: Directory, parts: _Parts, width: int, height: int) -> dict[int, tuple[int, int, bytes]]:
    order, entries = directory.order, directory.entries
    longs: dict[int, tuple[int, ...]] = {_WIDTH: (width,), _HEIGHT: (height,)}
    if parts.is_tiled:
        longs |= {_TILE_WIDTH: (parts.width,), _TILE_HEIGHT: (parts.height,)}
        longs |= {_TILES: parts.offsets, _TILE_BYTES: parts.sizes}
    else:
        longs |= {_STRIP_ROWS: (parts.height,), _STRIPS: parts.offsets, _STRIP_BYTES: parts.sizes}
    longs |= {tag: directory.numbers(tag, 1) for tag in _FAX_OPTIONS}
    if directory.number(_COMPRESSION, _RAW) == _OLD_JPEG_COMPRESSION:
        longs |= {tag: directory.numbers(tag, most) for tag, most in _OLD_JPEG.items()}
    shorts = {tag: directory.numbers(tag, 1) for tag in _SCALARS & entries.keys()}
    shorts |= {tag: directory.numbers(tag, _MAX_SAMPLES + 1) for tag in _LISTS & entries.keys()}
    if directory.number(_PHOTOMETRIC, 0) == _PALETTE_COLOURS:
        shorts[_PALETTE] = directory.numbers(_PALETTE, _COLOURS)
    tags = {tag: packed(order, LONG, values) for tag, values in longs.items() if values}
    tags |= {tag: packed(order, _SHORT, values) for tag, values in shorts.items() if values}
    copies = ((tag, directory.copy(tag, most)) for tag, most in _COPIES.items())
    return tags | {tag: copy for tag, copy in copies if copy is not None}


def _profile(directory: Directory) -> bytes:
    entry = directory.entries.get(_PROFILE)
    if entry is None or entry.count > MAX_PROFILE_BYTES:
        return b""
    return from_icc(directory.data[entry.offset : entry.offset + entry.count])


def _deepest(directory: Directory, samples: int, bits: int) -> int:
    """See `Container.deepest`. Decoders hand out the numbers of deep grey as they are stored."""
    if samples != 1 or bits <= _BYTE:
        return 0
    white = (1 << min(bits, _SHORT_BITS)) - 1
    return -white if directory.number(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO else white


def _orientation(directory: Directory) -> int:
    entry = directory.entries.get(exif.ORIENTATION_TAG)
    if entry is not None:
        try:
            return directory.number(exif.ORIENTATION_TAG, exif.UPRIGHT)
        except ImageError:
            return exif.UPRIGHT
    note = directory.entries.get(_XMP)
    if note is None:
        return exif.UPRIGHT
    return exif.from_xmp(directory.data[note.offset : note.offset + min(note.count, _MAX_NOTE)])
