"""Colour profiles: applied where they are of primaries and curves, and never a reason to refuse a photo."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from mtlora.images.container import read_container
from mtlora.images.container.profile import MAX_PROFILE_BYTES, from_codes, from_deflated, from_icc
from mtlora.images.opening import DEFAULT_MAX_PIXELS, open_photo
from testing.hostile_images import chunk
from testing.image_variants import encoded, picture
from testing.profiles import colorants, formula, gamma_curve, grey_profile, profile, rgb_profile

WIDE = {
    "p3": rgb_profile(colorants("p3")),
    "adobe": rgb_profile(colorants("adobe"), gamma_curve(2.2)),
    "prophoto": rgb_profile(colorants("prophoto"), gamma_curve(1.8)),
    "bt2020": rgb_profile(colorants("bt2020"), formula(4, 1 / 0.45, 0.9099, 0.0901, 0.2222, 0.0812, 0.0, 0.0)),
}
FORMS: dict[str, Callable[..., bytes]] = {
    "JPEG": lambda image, **more: encoded(image, "JPEG", quality=95, subsampling=0, **more),
    "PNG": lambda image, **more: encoded(image, "PNG", **more),
    "WEBP": lambda image, **more: encoded(image, "WEBP", lossless=True, **more),
    "TIFF": lambda image, **more: encoded(image, "TIFF", compression="tiff_lzw", **more),
    "AVIF": lambda image, **more: encoded(image, "AVIF", quality=95, subsampling="4:4:4", **more),
}


def by_pillow(image: Image.Image, icc: bytes) -> Image.Image:
    """The whole profile, as it came, given to the same library."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert made is not None
    return made


def apart(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", WIDE)
def test_a_profile_of_primaries_and_curves_is_applied(form: str, name: str) -> None:
    plain = FORMS[form](picture())
    pixels = open_photo(plain)
    with_profile = open_photo(FORMS[form](picture(), icc_profile=WIDE[name]))
    assert apart(with_profile, by_pillow(pixels, WIDE[name])) <= 1
    assert apart(with_profile, pixels) > 5


def test_colours_by_hand() -> None:
    """A half red of Display P3 in sRGB, from the two standards' matrices: more red than there is, and less green."""
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    linear = np.array([((value / 255 + 0.055) / 1.055) ** 2.4 for value in (200, 100, 50)])
    light = linear @ colorants("p3") @ np.linalg.inv(colorants("srgb"))
    right = [round(255 * (1.055 * value ** (1 / 2.4) - 0.055)) for value in light]
    got = open_photo(encoded(image, "PNG", icc_profile=WIDE["p3"])).getpixel((3, 3))
    assert np.abs(np.array(got) - right).max() <= 1
    assert right[0] > 205


@pytest.mark.parametrize(("code", "name"), [(9, "bt2020"), (12, "p3")])
def test_numbers_mean_the_same_as_a_profile(code: int, name: str) -> None:
    plain = encoded(picture(), "PNG")
    coded = plain[:33] + chunk(b"cICP", bytes([code, 13, 0, 1])) + plain[33:]
    right = by_pillow(open_photo(plain), rgb_profile(colorants(name)))
    assert apart(open_photo(coded), right) <= 1


def test_numbers_of_srgb_and_of_films_change_nothing() -> None:
    assert from_codes(1, 13) == from_codes(1, 1) == from_codes(9, 16) == from_codes(9, 18) == from_codes(77, 13) == b""


def test_grey_with_a_curve() -> None:
    image = picture("L")
    icc = grey_profile(gamma_curve(1.0))
    got = open_photo(encoded(image, "PNG", icc_profile=icc))
    light = np.asarray(image) / 255
    right = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(np.asarray(got)[..., 1] - right).max() <= 1


def test_transparency_stays_and_paper_stays_white() -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (200, 100, 50, 255))
    photo = open_photo(encoded(image, "PNG", icc_profile=WIDE["p3"]))
    assert photo.getpixel((0, 0)) == (255, 255, 255)
    opaque = open_photo(encoded(Image.new("RGB", (4, 4), (200, 100, 50)), "PNG", icc_profile=WIDE["p3"]))
    assert photo.getpixel((1, 1)) == opaque.getpixel((1, 1)) != (200, 100, 50)


SRGB_OF_OTHERS = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IGNORED = {
    "sRGB": rgb_profile(colorants("srgb")),
    "sRGB of lcms": SRGB_OF_OTHERS,
    "text": b"i" * 900,
    "cut": WIDE["p3"][:200],
    "of grey, on colours": grey_profile(gamma_curve(1.0)),
    "in Lab": profile(b"RGB ", {}).replace(b"XYZ ", b"Lab ", 1),
    "of inks": profile(b"CMYK", {b"A2B0": b"mft2" + bytes(5000)}),
    "black": rgb_profile([[0, 0, 0]] * 3),
    "one colour three times": rgb_profile([[0.3214, 0.3333, 0.275]] * 3),
    "curve that falls": rgb_profile(colorants("p3"), struct.pack(">4s4xI3H", b"curv", 3, 0, 65535, 0)),
    "curve of zeros": rgb_profile(colorants("p3"), struct.pack(">4s4xI3H", b"curv", 3, 0, 0, 0)),
    "curve of power 0": rgb_profile(colorants("p3"), gamma_curve(0.0)),
    "curve of power 120": rgb_profile(colorants("p3"), gamma_curve(120)),
    "curve of 4 billion values": rgb_profile(colorants("p3"), struct.pack(">4s4xI2H", b"curv", 2**32 - 1, 0, 0)),
    "formula of no known form": rgb_profile(colorants("p3"), formula(7, 1.0)),
    "formula that divides by 0": rgb_profile(colorants("p3"), formula(1, 2.2, 0.0, 0.5)),
    "tags beyond its end": WIDE["p3"][:132] + b"\xff" * 84 + WIDE["p3"][216:],
    "a million tags": WIDE["p3"][:128] + struct.pack(">I", 1 << 20) + b"zzzz\0\0\0\0\0\0\0\0" * 10_000,
    "huge": WIDE["p3"] + bytes(MAX_PROFILE_BYTES),
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_is_not_applied_is_ignored(name: str) -> None:
    assert open_photo(encoded(picture(), "PNG", icc_profile=IGNORED[name])) == open_photo(encoded(picture(), "PNG"))


def test_parts_of_a_profile_in_a_jpeg_come_in_any_order() -> None:
    icc = WIDE["adobe"] + bytes(100_000)
    whole = encoded(picture(), "JPEG", icc_profile=icc)
    first = whole.index(b"\xff\xe2")
    second = whole.index(b"\xff\xe2", first + 2)
    end = second + 2 + int.from_bytes(whole[second + 2 : second + 4], "big")
    swapped = whole[:first] + whole[second:end] + whole[first:second] + whole[end:]
    assert swapped != whole
    assert open_photo(swapped) == open_photo(whole)
    assert read_container(swapped, DEFAULT_MAX_PIXELS).profile == from_icc(icc) != b""


def test_a_deflated_bomb_is_no_profile() -> None:
    assert from_deflated(zlib.compress(WIDE["p3"] + bytes(1 << 27), 9)) == b""
    assert from_deflated(b"no deflate") == b""


@pytest.mark.parametrize("seed", range(40))
def test_broken_profiles_are_never_an_error(seed: int) -> None:
    random = np.random.default_rng(seed)
    broken = bytearray(WIDE["p3"])
    for at in random.integers(0, len(broken), 8):
        broken[at] = random.integers(256)
    open_photo(encoded(picture(), "PNG", icc_profile=bytes(broken)))


def test_what_is_made_is_small_and_has_nothing_of_the_original_but_numbers() -> None:
    made = from_icc(WIDE["p3"])
    assert len(made) < 10_000
    assert b"desc" not in made
    assert from_icc(made) == made
