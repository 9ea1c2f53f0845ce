"""Reading of photos for training: the reader that serving uses, so that a network learns what it will be shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.images.container import Container, read_container
from mtlora.images.opening import DEFAULT_MAX_PIXELS, decode_container
from mtlora.images.photo import DECODER_FAULTS, UPRIGHT, Photo, decoding
from mtlora.images.resampling import Levels, square
from mtlora.kernels import kernels
from mtlora.vocabulary.errors import DataError, ImageError

Uint8Array = NDArray[np.uint8]

_SIDEWAYS = range(5, 9)  # orientations whose rows are stored as columns


@dataclass(frozen=True, slots=True)
class PhotoShape:
    """Size of a photo as it is shown and as it is stored.

    width, height: pixels, upright
    orientation:   of the EXIF standard: 1 is stored upright
    """

    width: int
    height: int
    orientation: int = UPRIGHT

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as it is shown."""
        return self.width, self.height

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height before it is turned."""
        return (self.height, self.width) if self.orientation in _SIDEWAYS else self.size


@dataclass(frozen=True, slots=True)
class PhotoTraits:
    """What of a photo a reader could miss: that it is turned, lies over white, has deep greys or colours of its own.

    has_profile: a colour profile; is_converted: one whose colours are not those of sRGB
    """

    shape: PhotoShape
    is_transparent: bool = False
    is_deep: bool = False
    has_profile: bool = False
    is_converted: bool = False

    @property
    def is_turned(self) -> bool:
        """Whether its pixels are stored otherwise than they are shown."""
        return self.shape.orientation != UPRIGHT


def load_photo(path: Path) -> Photo:
    """Decode a photo as serving does; `DataError` names the file."""
    with _naming(path), decoding():
        return decode_container(_container(path), DEFAULT_MAX_PIXELS)


def squared(photo: Photo, side: int) -> Uint8Array:
    """A photo as serving resizes it: upright, RGB, bicubic with antialiasing; uint8 [3, side, side], 0..255."""
    return square(photo, side, Levels(), antialias=True, native=kernels()).astype(np.uint8)


def read_photo(path: Path, side: int) -> Uint8Array:
    """The square of a photo file; see `squared`."""
    photo = load_photo(path)
    with _naming(path), decoding():
        return squared(photo, side)


def photo_shape(path: Path) -> PhotoShape:
    """Size and orientation of a photo, without decoding it; `DataError` names the file."""
    with _naming(path):
        container = _container(path)
    width, height = container.width, container.height
    if not width:
        raise DataError(f"{path} cannot be read as an image: its {len(container.data)} bytes are of no known format")
    if container.orientation in _SIDEWAYS:
        width, height = height, width
    return PhotoShape(width, height, container.orientation)


def photo_traits(path: Path) -> PhotoTraits:
    """Decode a photo, to the last pixel, and say what it is like; `DataError` names the file."""
    with _naming(path), decoding():
        container = _container(path)
        photo = decode_container(container, DEFAULT_MAX_PIXELS)
        shape = PhotoShape(photo.width, photo.height, photo.orientation)
        other = bool(container.profile)
        return PhotoTraits(shape, photo.is_transparent, photo.is_deep, other or _names_colours(path), other)


def _names_colours(path: Path) -> bool:
    """Whether a file that Pillow knows has a colour profile, be it that of sRGB; serving drops those."""
    try:
        with Image.open(path) as header:
            return bool(header.info.get("icc_profile"))
    except DECODER_FAULTS:
        return False


def _container(path: Path) -> Container:
    return read_container(path.read_bytes(), DEFAULT_MAX_PIXELS)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the readers of photos as `DataError`, with the file's name."""
    try:
        yield
    except (ImageError, OSError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
