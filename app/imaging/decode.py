"""From bytes to the model's input. Every fault becomes one of the service's words for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from PIL import Image

from app.errors import BadImageError, EmptyBodyError, TooManyPixelsError, UnsupportedMediaError
from mtlora.errors import ImageError, ImageFormatError, ImageTooLargeError
from mtlora.images.opening import open_photo
from mtlora.preprocess import preprocess
from mtlora.spec import AdapterSpec


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A photo as the model takes it, and the size of the photo itself."""

    pixels: torch.Tensor  # float32 [3, S, S], normalised
    width: int  # of the upright photo
    height: int


def decode(data: bytes, spec: AdapterSpec, *, max_pixels: int) -> Decoded:
    """Decode one photo for an adapter set; its size is checked before any pixel is decoded."""
    photo = decode_photo(data, max_pixels)
    with _our_words():
        return Decoded(preprocess(photo, spec), photo.width, photo.height)


def decode_photo(data: bytes, max_pixels: int) -> Image.Image:
    """The upright photo in RGB."""
    if not data:
        raise EmptyBodyError("the image is empty: 0 bytes")
    with _our_words():
        return open_photo(data, max_pixels)


@contextmanager
def _our_words() -> Iterator[None]:
    try:
        yield
    except ImageFormatError as error:
        raise UnsupportedMediaError(str(error)) from error
    except ImageTooLargeError as error:
        raise TooManyPixelsError(str(error)) from error
    except ImageError as error:
        raise BadImageError(str(error)) from error
