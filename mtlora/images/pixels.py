"""The pixels of a Pillow image as an array, without a copy where the image allows it.

Pillow hands its memory out by the Arrow C data interface (arrow.apache.org/docs/format/CDataInterface.html): of an RGB
image one array of bytes, four for each pixel.
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.vocabulary.errors import ImageError

_CHANNELS = 4  # the last of them is nothing


class _ArrowArray(ctypes.Structure):
    """The beginning of `struct ArrowArray`, as far as it is read here."""


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an RGB image, not to be written to: uint8 [H, W, 4], the last of no meaning, or [H, W, 3].

    The former share the image's memory. The latter are a copy, where Pillow keeps an image in several pieces (above
    4 megapixels) or is older than version 11.2.
    """
    shared = shared_pixels_of(image)
    return np.array(image) if shared is None else shared


def shared_pixels_of(image: Image.Image) -> NDArray[np.uint8] | None:
    """As `pixels_of`, where that is the image's own memory; else None."""
    if image.mode != "RGB":
        raise ImageError(f"pixels are those of an RGB image, got one of mode {image.mode}")
    try:
        _, capsule = image.__arrow_c_array__()
    except (AttributeError, ValueError):
        return None
    array = _ArrowArray.from_address(_pointer(capsule, b"arrow_array"))
    values = array.children[0].contents
    size = image.height * image.width * _CHANNELS
    if values.length != size or values.offset or array.offset:
        return None
    memory: Any = (ctypes.c_uint8 * size).from_address(values.buffers[1])
    memory.capsule = capsule  # which keeps the memory for as long as the array does
    return np.frombuffer(memory, np.uint8).reshape(image.height, image.width, _CHANNELS)
