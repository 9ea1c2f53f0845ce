"""From bytes to the model's input. Every fault becomes one of the service's words for it."""

from dataclasses import dataclass

import torch
from PIL import Image

from app.errors import BadImageError, EmptyBodyError, TooManyPixelsError, UnsupportedMediaError
from mtlora.errors import ImageError, ImageFormatError, ImageTooLargeError
from mtlora.preprocess import open_photo, preprocess
from mtlora.spec import AdapterSpec


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A photo as the model takes it, and what is still needed of the photo itself."""

    pixels: torch.Tensor  # float32 [3, S, S], normalised
    width: int  # of the upright photo
    height: int
    photo: Image.Image | None  # upright RGB, only where the answer shows it


def decode(data: bytes, spec: AdapterSpec, *, max_pixels: int, keep_photo: bool) -> Decoded:
    """Decode one photo for an adapter set; its size is checked before any pixel is decoded."""
    if not data:
        raise EmptyBodyError("the image is empty: 0 bytes")
    try:
        photo = open_photo(data, max_pixels)
        return Decoded(preprocess(photo, spec), photo.width, photo.height, photo if keep_photo else None)
    except ImageFormatError as error:
        raise UnsupportedMediaError(str(error)) from error
    except ImageTooLargeError as error:
        raise TooManyPixelsError(str(error)) from error
    except ImageError as error:
        raise BadImageError(str(error)) from error
