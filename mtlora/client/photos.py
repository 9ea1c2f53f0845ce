"""What may be given as a photo, and how it is sent."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mtlora.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

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
