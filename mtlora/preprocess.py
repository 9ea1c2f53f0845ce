"""From a photo, in whatever form, to the model's input: upright RGB, S x S, normalised."""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from mtlora.errors import ImageError, ImageFormatError, ImageTooLargeError
from mtlora.image_guard import check_container
from mtlora.inference.map_ops import resize_cubic
from mtlora.pixels import pixels_of
from mtlora.spec import AdapterSpec

DEFAULT_MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What is decoded (JPEG includes phones' multi-picture files); other decoders stay out of reach of strangers' bytes."""

_WHITE = (255, 255, 255, 255)
_MAX_TILINGS = 8
_TURNED = range(2, 9)  # EXIF orientations other than upright
_GREY_16_BIT = 257  # 65535 / 255
_DECODER_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,
)


def open_photo(source: bytes | str | Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode a photo to RGB, EXIF orientation applied, alpha over white; of a GIF the first frame.

    Size is checked on the header, before any pixel is decoded. `ImageFormatError`: not an image; `ImageTooLargeError`:
    more than `max_pixels`; plain `ImageError`: empty, truncated or corrupt.
    """
    if isinstance(source, bytes) and not source:
        raise ImageError("the image is empty: 0 bytes")
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        check_container(data, max_pixels)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_pixels(image, max_pixels)
        _check_work(image)
        with _decoding():
            image.load()
        return to_rgb(image)
    except UnidentifiedImageError:
        shown = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        raise ImageFormatError(f"not an image ({shown}); known formats: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"the image is too large: {error}; the limit is {max_pixels} pixels") from None
    except ImageError:
        raise
    except _DECODER_FAULTS as error:
        raise ImageError(f"the image cannot be read: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: EXIF orientation applied, 16-bit grey scaled to 8, transparency composited over white.

    An upright RGB image is returned as it is.
    """
    with _decoding():
        upright = _upright(image)
        if upright.mode == "RGB" and "transparency" not in upright.info:
            return upright
        if upright.mode in {"F", "I"} or upright.mode.startswith("I;16"):
            return _from_deep_grey(upright)
        if upright.has_transparency_data:
            opaque = Image.new("RGBA", upright.size, _WHITE)
            opaque.alpha_composite(upright.convert("RGBA"))
            return opaque.convert("RGB")
        return upright.convert("RGB")


def preprocess(photo: Image.Image, spec: AdapterSpec) -> Tensor:
    """The model's input for one photo.

    photo:   any size and mode
    returns: float32 [3, S, S], resized with bicubic interpolation (aspect ratio not kept), /255, minus mean, over std
    """
    scale = [1 / (255 * std) for std in spec.std]
    shift = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    return resize(photo, spec.image_size, antialias=spec.antialias, scale=scale, shift=shift)


def resize(
    photo: Image.Image,
    side: int,
    *,
    antialias: bool,
    scale: Sequence[float] = (1.0, 1.0, 1.0),
    shift: Sequence[float] = (0.0, 0.0, 0.0),
) -> Tensor:
    """A photo as float32 [3, side, side] on the scale 0..255, each colour then times `scale` and plus `shift`.

    Without antialiasing, as published: the cubic kernel with a = -0.75 over the nearest 4 x 4 pixels, so fine texture
    of a large photo aliases, and values overshoot 0..255 at edges. With it: a = -0.5 over the whole footprint, 8 bit;
    torch's integer arithmetic, three times as fast as Pillow's and never more than 1 of 255 apart from it.
    """
    rgb = photo if photo.mode == "RGB" else to_rgb(photo)
    pixels = pixels_of(rgb)
    if not antialias:
        return resize_cubic(pixels, side, scale, shift)
    small = functional.interpolate(pixels.permute(2, 0, 1)[None], (side, side), mode="bicubic", antialias=True)
    colors = small[0, :3].float()
    for plane, times, plus in zip(colors, scale, shift, strict=True):  # each stays in the cache
        plane.mul_(times).add_(plus)
    return colors


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise ImageTooLargeError(f"the image has {width} x {height} pixels, the limit is {max_pixels}")


def _check_work(image: ImageFile.ImageFile) -> None:
    """Parts of a picture may overlap, and each is decoded: one for each colour channel is the most that makes sense."""
    boxes = [tile.extents for tile in image.tile if tile.extents is not None]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    if sum(areas) > _MAX_TILINGS * image.width * image.height:
        raise ImageError(f"the image is built to be slow to read: {len(areas)} parts of it overlap")


@contextmanager
def _decoding() -> Iterator[None]:
    """Decoders report broken data with many exceptions; here they become one."""
    try:
        yield
    except (*_DECODER_FAULTS, MemoryError, OverflowError) as error:
        raise ImageError(f"the image is truncated or corrupt: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says; EXIF data that cannot be read say nothing."""
    try:
        image.load()
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
        return ImageOps.exif_transpose(image) if turned else image  # which would copy it otherwise
    except _DECODER_FAULTS:
        return image


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """16-bit and 32-bit integer grey hold 0..65535; float grey holds 0..1, or 0..255 if anything is above 1."""
    values: NDArray[np.float32] = np.nan_to_num(np.asarray(image).astype(np.float32))
    if image.mode != "F":
        values /= np.float32(_GREY_16_BIT)
    elif values.max() <= 1:
        values *= np.float32(255)
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8), "L").convert("RGB")
