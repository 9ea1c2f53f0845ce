"""What lies behind a picture's end is not read: films, archives, other pictures, as phones put them there."""

import numpy as np
import pytest

from mtlora.images.container import read_container
from mtlora.images.opening import DEFAULT_MAX_PIXELS, open_photo
from mtlora.vocabulary.errors import ImageTooCostlyError
from testing.image_variants import encoded, picture

NOISE = np.random.default_rng(1).bytes(3_000_000)  # with thousands of bytes that look like markers
FILM = b"MotionPhoto_Data\0\0\0\x18ftypmp42" + bytes(12) + NOISE
PROGRESSIVE = encoded(picture(size=(640, 480)), "JPEG", progressive=True)


@pytest.mark.parametrize("behind", [FILM, b"PK\3\4" + NOISE, PROGRESSIVE * 60, NOISE, b"\xff\xda" * 9000])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_photo_is_that_of_the_photo_alone(form: str, behind: bytes) -> None:
    alone = encoded(picture(), form)
    assert open_photo(alone + behind) == open_photo(alone)
    assert len(read_container(alone + behind, DEFAULT_MAX_PIXELS).data) <= len(alone) + 300


def test_scans_of_a_second_picture_count_for_itself() -> None:
    """As large as a photo may be here, so that ten scans of each would be more than are allowed."""
    size = (2000, 1500)
    pair = encoded(picture(size=size), "MPO", save_all=True, append_images=[picture(size=size)], progressive=True)
    photo = read_container(pair, max_pixels=3_000_000)
    assert (photo.width, photo.height) == size
    assert len(photo.data) < len(pair) / 1.8


def test_a_hundred_scans_before_the_end_stay_refused() -> None:
    tables = PROGRESSIVE.rindex(b"\xff\xc4", 0, PROGRESSIVE.rindex(b"\xff\xda"))
    bomb = PROGRESSIVE[:-2] + PROGRESSIVE[tables:-2] * 120 + b"\xff\xd9"
    with pytest.raises(ImageTooCostlyError, match="JPEG scans"):
        open_photo(bomb + FILM)
