"""The opening of a photo, from bytes to pixels: sizes first, then what a decoder needs, then the decoder."""

import io
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from mtlora.images.colours import Colours
from mtlora.images.container import Container, read_container
from mtlora.images.container.bounds import broken
from mtlora.images.heif_decoders import HAS_AVIF, HAS_HEIC
from mtlora.images.photo import BAND_PIXELS, DECODER_FAULTS, Photo, decoding
from mtlora.vocabulary.errors import ImageError, ImageFormatError, ImageTooCostlyError, ImageTooLargeError

DEFAULT_MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", *("AVIF",) * HAS_AVIF, *("HEIF",) * HAS_HEIC)
"""What is decoded (JPEG includes phones' multi-picture files); other decoders stay out of reach of strangers' bytes."""

_MAX_TILINGS = 8


def open_photo(source: bytes | str | Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode a photo to RGB, EXIF orientation applied, alpha over white; of a GIF the first frame.

    Size is checked on the header, before any pixel is decoded. `ImageFormatError`: not an image; `ImageTooLargeError`:
    more than `max_pixels`; `ImageTooCostlyError`: far more work than its size; plain `ImageError`: empty, truncated or
    corrupt.
    """
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ImageError(f"the image cannot be read: {error}") from error
    with decoding():
        return decode_photo(data, max_pixels).whole()


def decode_photo(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photo:
    """The photo in these bytes, decoded but neither turned nor converted; errors as of `open_photo`."""
    if not data:
        raise ImageError("the image is empty: 0 bytes")
    return decode_container(read_container(data, max_pixels), max_pixels)


def decode_container(container: Container, max_pixels: int) -> Photo:
    """The same of a file that was looked at already."""
    try:
        image = Image.open(io.BytesIO(container.data), formats=FORMATS)
        _check_pixels(image, max_pixels)
        _check_work(image)
        with decoding():
            image.load()
            if container.probe:
                _check_whole(image, container.probe)
            return Photo(image, container.orientation, Colours(container.profile), container.deepest)
    except UnidentifiedImageError:
        raise _unidentified(container.data) from None
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"the image is too large: {error}; the limit is {max_pixels} pixels") from None
    except ImageError:
        raise
    except DECODER_FAULTS as error:
        raise ImageError(f"the image cannot be read: {error}") from error


def _unidentified(data: bytes) -> ImageError:
    """Why no decoder took a file, and what would be right."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand == b"heic" and "HEIF" not in FORMATS:
        return ImageFormatError(
            "this is HEIC, for which a decoder is not installed here: send JPEG or PNG, or let whoever runs this "
            "install pillow-heif (pip install 'mtlora-server[heic]')"
        )
    if brand == b"avif" and "AVIF" not in FORMATS:
        return ImageFormatError(
            "this is AVIF, for which a decoder is not installed here: send JPEG or PNG, or let whoever runs this "
            "install a Pillow that has one"
        )
    if brand:
        return broken(f"no decoder takes this {brand.decode('latin-1').upper()}; send all of it, or JPEG or PNG")
    return ImageFormatError(f"not an image ({len(data)} bytes); known formats: {', '.join(FORMATS)}")


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
        raise ImageTooCostlyError(f"the image is built to be slow to read: {len(areas)} parts of it overlap")


def _check_whole(image: Image.Image, probe: bytes) -> None:
    """A file without its end may lack pixels too; a decoder makes them up, from whatever comes behind the data."""
    other = Image.open(io.BytesIO(probe), formats=FORMATS)
    step = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, step):
        band = 0, top, image.width, min(top + step, image.height)
        if image.crop(band).tobytes() != other.crop(band).tobytes():
            raise ImageError("the image is truncated or corrupt: it ends before its last pixels")
