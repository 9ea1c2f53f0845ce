"""Grey of more than 8 bits: by what its format can say, and never a negative."""

import numpy as np
import pytest
from PIL import Image

from mtlora.images.opening import open_photo
from testing.image_variants import encoded, tiff_file

VALUES = np.arange(0, 65_536, 257, dtype=np.uint16).reshape(16, 16)


def tiff(values: "np.ndarray", photometric: int) -> bytes:
    bits = values.dtype.itemsize * 8
    tags = {256: [16], 257: [16], 258: [bits], 259: [1], 262: [photometric], 277: [1], 278: [16]}
    return tiff_file("<", tags, [values.tobytes()], (273, 279))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_white_is_zero_is_turned_round_at_any_depth(kind: type) -> None:
    values = VALUES.astype(np.uint16) if kind is np.uint16 else (VALUES // 257).astype(np.uint8)
    highest = np.iinfo(kind).max
    black = np.asarray(open_photo(tiff(values, 1)))
    white = np.asarray(open_photo(tiff((highest - values).astype(kind), 0)))
    np.testing.assert_array_equal(black, white)
    np.testing.assert_array_equal(black[..., 0], VALUES // 257)


def test_ten_bits_in_sixteen_stay_dark() -> None:
    photo = open_photo(encoded(Image.fromarray(np.full((4, 4), 1023, np.uint16)), "PNG"))
    assert photo.getpixel((0, 0)) == (4, 4, 4)
