"""JPEG files without an end-of-image marker, as some cameras and grabbers write them: whole, or lacking pixels."""

from typing import Any

import pytest

from mtlora.images.container import read_container
from mtlora.images.opening import DEFAULT_MAX_PIXELS, open_photo
from mtlora.vocabulary.errors import ImageError
from testing.image_variants import encoded, picture

OPTIONS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "grey": {"mode": "L"},
    "full colour": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 3},
    "restarts in rows": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "progressive, restarts": {"progressive": True, "restart_marker_blocks": 3},
    "four colours": {"mode": "CMYK", "progressive": True},
    "coarse": {"quality": 5},
}


def written(name: str) -> bytes:
    options = dict(OPTIONS[name])
    mode = str(options.pop("mode", "RGB"))
    return encoded(picture(mode, (210, 140)), "JPEG", **options)


@pytest.mark.parametrize("name", OPTIONS)
def test_all_pixels_are_there(name: str) -> None:
    data = written(name)
    assert open_photo(data[:-2]) == open_photo(data)
    assert open_photo(data[:-1]) == open_photo(data)
    assert open_photo(data[:-2] + bytes(500)) == open_photo(data)
    container = read_container(data[:-2], DEFAULT_MAX_PIXELS)
    assert container.decoded_bytes == 2 * read_container(data, DEFAULT_MAX_PIXELS).decoded_bytes  # decoded twice


@pytest.mark.parametrize("name", OPTIONS)
def test_pixels_are_missing(name: str) -> None:
    """Cut anywhere, between restarts and between scans too."""
    data = written(name)
    start = data.index(b"\xff\xda")
    whole = open_photo(data).tobytes()
    marks = [at for at in range(start + 2, len(data) - 9) if data[at] == 0xFF and data[at + 1]]
    cuts = {
        *range(start + 20, len(data) - 8, max(1, (len(data) - start) // 60)),
        *marks[:60],
        *(at + 2 for at in marks[:60]),
    }
    for end in sorted(cuts):
        try:
            assert open_photo(data[:end]).tobytes() == whole
        except ImageError as error:
            assert "truncated" in str(error)
    with pytest.raises(ImageError, match="truncated"):
        open_photo(data[: (start + len(data)) // 2])


def test_arithmetic_coding_stays_refused() -> None:
    """Zeros at its end may be left out, so nobody can tell."""
    data = written("baseline").replace(b"\xff\xc0", b"\xff\xc9", 1)
    assert read_container(data[:-2], DEFAULT_MAX_PIXELS).probe == b""
