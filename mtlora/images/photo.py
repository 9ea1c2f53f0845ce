"""A decoded photo. It is made upright and RGB only as far as it is looked at."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.images.colours import Colours
from mtlora.images.pixels import pixels_of, shared_pixels_of
from mtlora.images.tiles import Box
from mtlora.vocabulary.errors import ImageError, ImageTooCostlyError

BAND_PIXELS = 1 << 20
"""Turned and converted at once: what is made on the way to the model's square stays this small."""

DECODER_FAULTS = (
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)
"""What decoders report broken data with."""

UPRIGHT = 1
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright that is stored with an orientation of the EXIF standard, 2 to 8."""

SIDEWAYS = range(5, 9)
"""Orientations whose rows are stored as columns."""
_FROM_THE_END = {3, 4, 7, 8}  # orientations whose first row is stored last
_MIRRORED = {2, 3, 6, 7}  # orientations whose first column is stored last
_WHITE = (255, 255, 255, 255)
_WHITE_16_BIT = 65_535
_PLAIN = Colours()


class Photo:
    """Pixels as a decoder left them, and how they are to be held. Whole copies are made only where asked for."""

    def __init__(
        self, image: Image.Image, orientation: int = UPRIGHT, colours: Colours = _PLAIN, deepest: int = 0
    ) -> None:
        """orientation: of the EXIF standard, 1 to 8; anything else is upright

        deepest: see `Container.deepest`
        """
        self._image = image
        self._orientation = orientation if orientation in TURNS else UPRIGHT
        self._colours = colours
        self._grey = _deep_grey(image, deepest)
        self._pixels: NDArray[np.uint8] | None = None

    @property
    def orientation(self) -> int:
        """How it was stored, of the EXIF standard: 1 is upright."""
        return self._orientation

    @property
    def is_transparent(self) -> bool:
        """Whether white shows through anywhere."""
        if not self._image.has_transparency_data:
            return False
        darkest, _ = self._image.convert("RGBA").getchannel("A").getextrema()
        return bool(darkest != _WHITE[-1])

    @property
    def is_deep(self) -> bool:
        """Whether it is grey of more than 8 bits, and is scaled to 8."""
        return self._grey is not None

    @property
    def width(self) -> int:
        """Of the upright photo."""
        return self._image.height if self._orientation in SIDEWAYS else self._image.width

    @property
    def height(self) -> int:
        """Of the upright photo."""
        return self._image.width if self._orientation in SIDEWAYS else self._image.height

    def part(self, box: Box) -> "Photo":
        """A part of the upright photo, with pixels of its own; grey is held as all of the photo has it."""
        left, right = (self.width - box.right, self.width - box.left) if self._mirrored else (box.left, box.right)
        top, bottom = (self.height - box.bottom, self.height - box.top) if self._from_the_end else (box.top, box.bottom)
        stored = (top, left, bottom, right) if self._orientation in SIDEWAYS else (left, top, right, bottom)
        part = Photo(self._image.crop(stored), self._orientation, self._colours)
        part._grey = self._grey
        return part

    def whole(self) -> Image.Image:
        """All of it: upright, RGB. The decoder's own image where that is both."""
        return self.rows(0, self.height)

    def rows(self, top: int, bottom: int) -> Image.Image:
        """The upright rows from `top` to before `bottom`, RGB."""
        part = self._image
        if (top, bottom) != (0, self.height):
            part = part.crop(self._box(top, bottom))
        if self._orientation != UPRIGHT:
            part = part.transpose(TURNS[self._orientation])
        return _to_rgb(part, self._grey, self._colours)

    def pixels(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """The upright rows from `top` to before `bottom`, see `pixels_of`; the decoder's own memory where they are."""
        is_other = self._image.mode != "RGB" or self._image.has_transparency_data or self._colours.change_rgb
        if self._orientation != UPRIGHT or is_other:
            return pixels_of(self.rows(top, bottom))
        if self._pixels is None:
            self._pixels = shared_pixels_of(self._image)
        return pixels_of(self.rows(top, bottom)) if self._pixels is None else self._pixels[top:bottom]

    def bands(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """All of it from the top, some rows at a time: the first row's number, and the pixels, see `pixels_of`."""
        step = max(1, BAND_PIXELS // self.width)
        for top in range(0, self.height, step):
            yield top, self.pixels(top, min(top + step, self.height))

    def _box(self, top: int, bottom: int) -> tuple[int, int, int, int]:
        """Where upright rows are stored: left, top, right, bottom."""
        first, last = (self.height - bottom, self.height - top) if self._from_the_end else (top, bottom)
        if self._orientation in SIDEWAYS:
            return first, 0, last, self._image.height
        return 0, first, self._image.width, last

    @property
    def _from_the_end(self) -> bool:
        return self._orientation in _FROM_THE_END

    @property
    def _mirrored(self) -> bool:
        return self._orientation in _MIRRORED


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, as it is held: 16-bit grey scaled to 8, transparency composited over white.

    An RGB image without transparency is returned as it is.
    """
    return _to_rgb(image, _deep_grey(image), _PLAIN)


@contextmanager
def decoding() -> Iterator[None]:
    """Decoders report broken data with many exceptions; here they become one."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageTooCostlyError("the image takes more memory than there is for an image of its size") from error
    except DECODER_FAULTS as error:
        raise ImageError(f"the image is truncated or corrupt: {error}") from error


def _to_rgb(image: Image.Image, grey: "_DeepGrey | None", colours: Colours) -> Image.Image:
    if grey is not None:
        return colours.in_srgb(grey.shown(image))
    if not image.has_transparency_data:
        return colours.in_srgb(_plain(image))
    alpha = image.convert("RGBA")
    picture = colours.in_srgb(image.getchannel("L") if image.mode in {"LA", "La"} else alpha.convert("RGB"))
    picture.putalpha(alpha.getchannel("A"))
    opaque = Image.new("RGBA", image.size, _WHITE)
    opaque.alpha_composite(picture)
    return opaque.convert("RGB")


def _plain(image: Image.Image) -> Image.Image:
    """RGB, or grey of 8 bits."""
    if image.mode in {"RGB", "L"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


@dataclass(frozen=True, slots=True)
class _DeepGrey:
    """How numbers of more than 8 bits are shown: times `scale`, plus `shift`, on the scale 0..255."""

    scale: float
    shift: float

    def shown(self, image: Image.Image) -> Image.Image:
        """Grey of 8 bits; what is no number is 0."""
        values: NDArray[np.float32] = np.nan_to_num(np.asarray(image).astype(np.float32))
        values = values * np.float32(self.scale) + np.float32(self.shift)
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8), "L")


def _deep_grey(image: Image.Image, deepest: int = 0) -> _DeepGrey | None:
    """How a deep grey image is shown; None if it is none.

    Whole numbers hold 0 to white, which is 65535 unless `deepest` says otherwise (negative: 0 is white); floats hold
    0..1, or 0..255 if anything is above 1.
    """
    if image.mode not in {"F", "I"} and not image.mode.startswith("I;16"):
        return None
    white = float(abs(deepest) or _WHITE_16_BIT)
    if image.mode == "F":
        step = max(1, BAND_PIXELS // image.width)
        bands = (image.crop((0, at, image.width, min(at + step, image.height))) for at in range(0, image.height, step))
        white = 1.0 if max(float(np.nan_to_num(np.asarray(band)).max()) for band in bands) <= 1 else 255.0
    return _DeepGrey(-255 / white, 255.0) if deepest < 0 else _DeepGrey(255 / white, 0.0)
