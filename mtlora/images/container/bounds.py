"""The bounds that every image format shares, and what a decoder gets to see of a file."""

from dataclasses import dataclass

from mtlora.vocabulary.errors import ImageError, ImageTooCostlyError, ImageTooLargeError

MAX_SIDE = 65_535
"""Pixels of one side. What follows a decoder holds something for each row or column, not only for each pixel."""

_SLACK = 2 << 20  # a decoder's tables and states, whatever the picture
_ROW_POINTER = 8


@dataclass(frozen=True, slots=True)
class Container:
    """An image file as a decoder is to see it."""

    data: bytes
    """Of the same format: what its first picture needs, and nothing else."""
    orientation: int = 1
    """Of the EXIF standard, 1 to 8: how the first picture is to be held."""
    width: int = 0
    """As stored, before it is turned; 0 if the format is none that is known."""
    height: int = 0
    decoded_bytes: int = 0
    """At most so much memory does the decoder take, the decoded picture included, the file not."""
    probe: bytes = b""
    """If there is any: the file with other bytes behind its data. It decodes to the same pixels if none are missing."""
    profile: bytes = b""
    """What is applied of the file's colour profile, see `profile.from_icc`."""
    deepest: int = 0
    """White of a grey picture of more than 8 bits a pixel, where it is not 65,535; negative: that is black, 0 white."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """`ImageTooLargeError` if it is larger than may be decoded; `ImageError` if it is nothing."""
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise ImageTooLargeError(f"the image has {width} x {height} pixels, the limit is {max_pixels}")
    if max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(f"the image has {width} x {height} pixels: no side may be longer than {MAX_SIDE}")


def decoded_bytes(width: int, height: int, extra: int = 0) -> int:
    """Memory of a decoded picture of at most four bytes a pixel, and of what its decoder holds beside it."""
    return (4 * width + _ROW_POINTER) * height + extra + _SLACK


def refuse_costly(what: str, most: object) -> None:
    """`ImageTooCostlyError`: there is more of something than a picture needs."""
    raise ImageTooCostlyError(f"the image is built to be slow to read: too many or too large: {what}; at most {most}")


def broken(why: str) -> ImageError:
    """The error for a file that ends early or contradicts itself."""
    return ImageError(f"the image is truncated or corrupt: {why}")
