"""The decoding of one photo, in a process of its own or in a thread of the server. Imports no torch."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.decoding import warm_photos
from app.decoding.messages import Limits, Report, Verdict, Wanted, square_bytes
from mtlora.images.container import Container, read_container
from mtlora.images.container.profile import from_codes
from mtlora.images.opening import FORMATS, decode_container
from mtlora.images.photo import SIDEWAYS, Photo, decoding
from mtlora.images.resampling import Levels, square
from mtlora.images.tiles import WHOLE
from mtlora.kernels import Kernels
from mtlora.kernels.interface import PIXEL_BYTES
from mtlora.vocabulary.errors import ImageError, ImageFormatError, ImageTooCostlyError, ImageTooLargeError

ROOM_BYTES = 24 << 20
"""For bands of rows on their way, beside what the decoder takes."""
SQUARE_BYTES = 40
"""For each pixel of the model's square: sums, floats, and the same in shared memory."""

_PROFILE = from_codes(12, 13)  # Display P3

_VERDICTS = (
    (ImageFormatError, Verdict.NO_IMAGE),
    (ImageTooLargeError, Verdict.TOO_LARGE),
    (ImageTooCostlyError, Verdict.TOO_COSTLY),
    (ImageError, Verdict.BROKEN),
)
Place = Callable[[int, tuple[int, ...], type[np.generic]], NDArray[Any]]
"""Bytes of the result that come before, a shape and a kind of number: where those values are to be written."""


def decode(
    data: bytes,
    wanted: Wanted,
    limits: Limits,
    may_take: Callable[[int, int], bool],
    place: Place,
    native: Kernels | None,
) -> Report:
    """Decode a photo; its square, or its pixels, are written where `place` says.

    may_take: of the pixels that are looked at and the memory it will take, asked before it is decoded
    """
    if not data:
        return Report(Verdict.EMPTY, "the image is empty: 0 bytes")
    try:
        container = read_container(data, limits.max_pixels)
        need = container.decoded_bytes + len(data) + len(container.data) + ROOM_BYTES + wanted.side**2 * SQUARE_BYTES
        pixels, more = _of_tiles(container, wanted)
        need += more
        if not may_take(container.width * container.height + pixels, need):
            return Report(Verdict.LARGE, need=need)
        photo = decode_container(container, limits.max_pixels)
        with decoding():
            _hand_over(photo, wanted, place, native)
    except ImageError as error:
        return Report(next(verdict for kind, verdict in _VERDICTS if isinstance(error, kind)), str(error))
    except MemoryError:
        raise
    except Exception as error:  # a reader's or a decoder's fault, which is no reason to lose a process or a thread
        return Report(Verdict.BROKEN, f"the image cannot be read: {type(error).__name__}: {error}"[:300])
    return Report(Verdict.DONE, width=photo.width, height=photo.height, orientation=photo.orientation)


def warm_up(limits: Limits, native: Kernels | None) -> None:
    """Decode a photo of every format: what is imported late by a decoder is imported now."""
    for photo in _every_format():
        for antialias in (False, True):
            decode(photo, Wanted(16, antialias), limits, lambda *_: True, _anywhere, native)


def _every_format() -> Iterator[bytes]:
    for name in FORMATS:
        if name in warm_photos.MADE:
            yield warm_photos.MADE[name]
            continue
        for mode in ("RGB", "L"):
            buffer = io.BytesIO()
            Image.new(mode, (16, 16)).save(buffer, name, **({"icc_profile": _PROFILE} if mode == "RGB" else {}))
            yield buffer.getvalue()


def _hand_over(photo: Photo, wanted: Wanted, place: Place, native: Kernels | None) -> None:
    if wanted.side:
        side, levels = wanted.side, Levels(wanted.scale, wanted.shift)
        for number, part in enumerate(_parts(photo, wanted)):
            out = place(number * square_bytes(side), (3, side, side), np.float32)
            square(part, side, levels, antialias=wanted.antialias, native=native, out=out)
        return
    for top, band in photo.bands():
        place(top * photo.width * 3, (len(band), photo.width, 3), np.uint8)[:] = band[..., :3]


def _parts(photo: Photo, wanted: Wanted) -> Iterator[Photo]:
    """What is to become a square each: the photo, or its tiles."""
    grid = wanted.tiling.of(photo.width, photo.height, wanted.side)
    if grid == WHOLE:
        yield photo
        return
    for box in grid.boxes(photo.width, photo.height, wanted.side):
        yield photo.part(box)


def _of_tiles(container: Container, wanted: Wanted) -> tuple[int, int]:
    """What tiles add: pixels that are made or looked at twice, and the memory of one tile's own pixels."""
    width, height = container.width, container.height
    if container.orientation in SIDEWAYS:
        width, height = height, width
    grid = wanted.tiling.of(width, height, wanted.side) if wanted.side else WHOLE
    if grid == WHOLE:
        return 0, 0
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in grid.boxes(width, height, wanted.side)]
    return sum(areas) - width * height + grid.count * wanted.side**2, max(areas) * PIXEL_BYTES


def _anywhere(_: int, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    return np.empty(shape, kind)
