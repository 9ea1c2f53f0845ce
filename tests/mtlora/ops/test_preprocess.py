"""Photos of every kind become the same input; what is no photo is refused with its own error."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from mtlora.images.opening import FORMATS, open_photo
from mtlora.ops.preprocess import preprocess, resize
from mtlora.vocabulary.errors import ImageError, ImageFormatError, ImageTooLargeError
from testing.small_models import SPEC

RED_OVER_WHITE = (255, 127, 127)  # red at half opacity


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind: str) -> None:
    photo = open_photo(encoded(Image.new("RGB", (31, 17), (200, 100, 50)), kind))
    assert (photo.mode, photo.size) == ("RGB", (31, 17))
    np.testing.assert_allclose(np.asarray(photo)[5, 5], (200, 100, 50), atol=4)


MODES: dict[str, tuple[tuple[int, int, int], Any]] = {
    "1": ((255, 255, 255), 1),
    "L": ((90, 90, 90), 90),
    "LA": ((177, 177, 177), (100, 128)),
    "RGBA": (RED_OVER_WHITE, (255, 0, 0, 128)),
    "I;16": ((128, 128, 128), 128 * 257),
    "I": ((128, 128, 128), 128 * 257),
    "F": ((128, 128, 128), 128 / 255),
    "CMYK": ((255, 255, 0), (0, 0, 255, 0)),
    "YCbCr": ((90, 90, 90), (90, 128, 128)),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str) -> None:
    expected, value = MODES[mode]
    photo = open_photo(encoded(Image.new(mode, (4, 3), value), "JPEG" if mode in {"CMYK", "YCbCr"} else "TIFF"))
    np.testing.assert_allclose(np.asarray(photo)[1, 1], expected, atol=2)


def test_palette_and_its_transparent_colour() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert open_photo(encoded(image)).getpixel((0, 0)) == (10, 200, 30)
    assert open_photo(encoded(image, transparency=1)).getpixel((0, 0)) == (255, 255, 255)
    assert open_photo(encoded(Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9))).getpixel((0, 0)) == (
        (255,) * 3
    )


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_photo(content).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    """All eight orientations of the same scene come out the same, upright."""
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # the top left quarter is white
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = open_photo(encoded(Image.fromarray(np.ascontiguousarray(turned)), "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(photo), upright)


def test_path_and_bytes_are_the_same(tmp_path: Path) -> None:
    content = encoded(noise(20, 10))
    (tmp_path / "a.png").write_bytes(content)
    assert open_photo(tmp_path / "a.png") == open_photo(content) == open_photo(str(tmp_path / "a.png"))


@pytest.mark.parametrize("size", [(500, 375), (40, 30), (64, 64), (1, 1), (2000, 3)])
def test_published_resize(size: tuple[int, int]) -> None:
    """Bicubic without antialiasing on 0..255 floats, not rounded and not clipped."""
    photo = noise(*size)
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float()
    expected = functional.interpolate(pixels, (64, 64), mode="bicubic", align_corners=False, antialias=False)[0]
    torch.testing.assert_close(resize(photo, 64, antialias=False), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [(500, 375), (40, 30), (1, 1), (2000, 3)])
def test_antialiased_resize_is_that_of_pillow_within_one_level(size: tuple[int, int]) -> None:
    photo = noise(*size)
    expected = np.array(photo.resize((64, 64), Image.Resampling.BICUBIC)).astype(np.float32).transpose(2, 0, 1)
    difference = np.abs(resize(photo, 64, antialias=True).numpy() - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_antialiased_resize_averages_what_the_published_one_skips() -> None:
    checks = Image.fromarray(np.tile(np.array([[0, 255], [255, 0]], np.uint8), (400, 400))).convert("RGB")
    assert resize(checks, 64, antialias=True).std() < 5
    assert resize(checks, 96, antialias=False).std() > 20


def test_normalisation() -> None:
    x = preprocess(Image.new("RGB", (10, 20), (124, 116, 104)), SPEC)
    assert (x.shape, x.dtype) == ((3, 64, 64), torch.float32)
    torch.testing.assert_close(x[:, 5, 5], torch.zeros(3), atol=0.01, rtol=0)
    white = preprocess(Image.new("RGB", (10, 20), "white"), SPEC)
    torch.testing.assert_close(white[:, 0, 0], (1 - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std))


@pytest.mark.parametrize("content", [b"hello", b"%PDF-1.7 ...", b"\x89PNG\r\n", b"<svg/>", b"\0" * 4096])
def test_not_an_image(content: bytes) -> None:
    with pytest.raises(ImageFormatError, match="not an image"):
        open_photo(content)


def test_formats_outside_the_list_are_not_decoded() -> None:
    with pytest.raises(ImageFormatError, match="known formats: JPEG"):
        open_photo(encoded(noise(4, 4), "PPM"))


def test_empty_and_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="empty: 0 bytes"):
        open_photo(b"")
    with pytest.raises(ImageError, match="No such file"):
        open_photo(tmp_path / "none.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_truncated(kind: str) -> None:
    """Cut in the middle of the pixels: an ImageError that is neither of the two special ones."""
    content = encoded(noise(64, 64), kind)
    with pytest.raises(ImageError) as caught:
        open_photo(content[: len(content) // 2])
    assert type(caught.value) is ImageError or kind == "WEBP"  # the WebP decoder cannot tell the two apart


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_corrupt_bytes_never_crash(kind: str) -> None:
    """200 random corruptions: a photo or an ImageError, nothing else."""
    content, random = encoded(noise(32, 32), kind), np.random.default_rng(0)
    for _ in range(200):
        bad = bytearray(content)
        for position in random.integers(0, len(bad), 3):
            bad[position] = random.integers(0, 256)
        try:
            open_photo(bytes(bad), max_pixels=10_000)
        except ImageError:
            continue


def test_too_large_is_seen_before_decoding() -> None:
    """A PNG that announces a gigapixel and holds nothing: the size is what is complained about."""
    header = struct.pack(">IIBBBBB", 50_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(ImageTooLargeError, match=r"too large|50000 x 20000"):
        open_photo(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0" * 8)
    with pytest.raises(ImageTooLargeError, match="31 x 17 pixels, the limit is 500"):
        open_photo(encoded(noise(31, 17)), max_pixels=500)
