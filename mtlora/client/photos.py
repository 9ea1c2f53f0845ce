"""Photos for a request: what may be given as one, and how it is sent."""

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mtlora.vocabulary.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_HEAD_BYTES = 24
_JPEG_SEGMENTS = 1000  # before the one with the size
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDB), 0xFF})

Photo: TypeAlias = "str | Path | bytes | NDArray[np.uint8] | Image.Image"
"""A file's path, the bytes of a file, an array uint8 [H, W, 3] (red, green, blue) or [H, W], or a PIL image."""


def photo_bytes(photo: Photo) -> bytes:
    """The bytes to send: files as they are, arrays and PIL images as PNG, which loses nothing."""
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, str | Path):
        try:
            return Path(photo).read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read {photo}: {error.strerror or error}") from error
    return _as_png(photo)


def pixels_of(file: bytes) -> int | None:
    """Pixels of a PNG or JPEG file, by its head; None if they are not plain to see there."""
    if file.startswith(_PNG) and len(file) >= _PNG_HEAD_BYTES:
        width, height = struct.unpack_from(">II", file, len(_PNG))
        return width * height or None
    return _jpeg_pixels(file) if file.startswith(b"\xff\xd8") else None


def _jpeg_pixels(file: bytes) -> int | None:
    position = 2
    for _ in range(_JPEG_SEGMENTS):
        head = file[position : position + 9]
        if len(head) < 9 or head[0] != 0xFF or head[1] in _JPEG_WITHOUT_LENGTH:
            return None
        if head[1] in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", head, 5)
            return height * width or None
        position += 2 + struct.unpack_from(">H", head, 2)[0]
    return None


def _as_png(photo: Any) -> bytes:
    from PIL import Image

    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim not in (2, 3) or (photo.ndim == 3 and photo.shape[2] != 3):
            raise ImageError(f"a photo is uint8 [H, W, 3] or [H, W], got {photo.dtype} {list(photo.shape)}")
        photo = Image.fromarray(photo)
    if not isinstance(photo, Image.Image):
        raise ImageError(f"a photo is a path, bytes, an array or a PIL image, got {type(photo).__name__}")
    buffer = io.BytesIO()
    try:
        photo.save(buffer, "PNG", compress_level=1, exif=photo.getexif())
    except OSError as error:
        raise ImageError(f"a photo of mode {photo.mode} cannot be sent as PNG: {error}; use .convert('RGB')") from error
    return buffer.getvalue()
