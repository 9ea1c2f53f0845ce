"""What a decoder is shown decodes to what the whole file decodes to, and is no larger than it has to be."""

import io
import random
import warnings

import pytest
from PIL import Image, features

from mtlora.images.container import read_container
from mtlora.images.opening import DEFAULT_MAX_PIXELS, FORMATS, open_photo
from mtlora.vocabulary.errors import ImageError, ImageFormatError
from testing.image_variants import ALL, SIZE, by_hand, encoded, jpegs, picture


def decoded(data: bytes) -> tuple[object, ...]:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    image.load()
    return image.mode, image.size, image.getpalette(), image.info.get("transparency"), image.tobytes()


@pytest.mark.parametrize("name", ALL)
def test_pixels_are_those_of_the_whole_file(name: str) -> None:
    container = read_container(ALL[name], DEFAULT_MAX_PIXELS)
    expected = decoded(ALL[name])
    assert decoded(container.data) == expected
    assert (container.width, container.height) == expected[1]
    assert container.orientation == 1
    assert container.decoded_bytes >= 4 * container.width * container.height


def test_big_tiffs_in_the_other_byte_order_are_read_too() -> None:
    """Pillow itself takes them for classic ones."""
    data = by_hand(">", 1, None, packed=False, big=True)
    assert decoded(read_container(data, DEFAULT_MAX_PIXELS).data)[-1] == picture().tobytes()


@pytest.mark.parametrize("name", ALL)
def test_what_is_made_is_made_the_same_again(name: str) -> None:
    once = read_container(ALL[name], DEFAULT_MAX_PIXELS)
    twice = read_container(once.data, DEFAULT_MAX_PIXELS)
    assert decoded(twice.data) == decoded(once.data)
    if not name.startswith("tiff"):  # whose bytes stay, under another directory
        assert twice.data == once.data


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_nothing_beside_the_picture_is_left(form: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    data = encoded(picture(), form, exif=exif, icc_profile=b"icc" * 100, xmp=b"<xmp/>", comment=b"a comment")
    image = Image.open(io.BytesIO(read_container(data, DEFAULT_MAX_PIXELS).data))
    assert {"exif", "icc_profile", "xmp", "comment"} & {key for key, value in image.info.items() if value} == set()
    assert 0x010E not in image.getexif()


def test_what_lies_behind_the_end_is_cut_off() -> None:
    for name, data in jpegs():
        kept = read_container(data + b"PK\3\4" + bytes(100_000) + b"\xff\xda" * 5000, DEFAULT_MAX_PIXELS).data
        assert len(kept) <= len(data), name
    gif = ALL["gif, animated 1"]
    assert len(read_container(gif + b"!\xfe\1x\0" * 100_000, DEFAULT_MAX_PIXELS).data) < len(gif)
    png = ALL["png RGB"]
    assert read_container(png + bytes(5000), DEFAULT_MAX_PIXELS) == read_container(png, DEFAULT_MAX_PIXELS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", sorted(ALL)[::3])
def test_anything_broken_is_an_image_error(name: str, seed: int) -> None:
    """Bits flipped, bytes set to extremes, pieces cut out or put in twice: a photo or an `ImageError`."""
    chance = random.Random(f"{name}{seed}")
    for _ in range(12):
        data = bytearray(ALL[name])
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(min(len(data), chance.choice((40, 400, len(data)))))
            kind = chance.randrange(4)
            if kind == 0:
                data[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            elif kind == 2:
                del data[at : at + chance.randrange(1, 60)]
            else:
                data[at:at] = data[chance.randrange(len(data)) :][: chance.randrange(1, 60)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                photo = open_photo(bytes(data), 2_000_000)
            except ImageError:
                continue
        assert photo.width * photo.height <= 2_000_000


@pytest.mark.parametrize(
    "name", [name for name in ALL if name.startswith(("jpeg RGB", "png RGB", "webp RGB", "gif P"))]
)
def test_a_file_cut_anywhere_is_broken_and_never_another_picture(name: str) -> None:
    data, whole = ALL[name], open_photo(ALL[name])
    for end in range(12, len(data), max(1, len(data) // 90)):
        try:
            assert open_photo(data[:end]) == whole
        except ImageFormatError:
            assert end < 64
        except ImageError:
            continue


def test_bytes_of_no_known_format_stay_as_they_are() -> None:
    for data in (b"", b"\xff\xd8", b"GIF88a", b"RIFF\0\0\0\0WEB", b"II*", bytes(5000)):
        assert read_container(data, 100).data == data


def test_sizes_are_those_of_the_picture() -> None:
    assert features.check("libtiff")
    for name, data in ALL.items():
        if "large" not in name and "elsewhere" not in name and "beyond" not in name:
            container = read_container(data, DEFAULT_MAX_PIXELS)
            assert (container.width, container.height) == SIZE, name
