"""Training sees what the server sees."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mtlora.data.cache import cached
from mtlora.data.layout import open_dataset
from mtlora.data.photos import load_photo, photo_shape, photo_traits, read_photo
from mtlora.images.opening import open_photo
from mtlora.images.resampling import Levels, square
from mtlora.kernels import kernels
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from testing.profiles import colorants, rgb_profile
from testing.tiny_dataset import write_dataset

SIDE = 32


def ramp(*channels: int) -> Image.Image:
    """64 x 48, brighter to the right and below."""
    y, x = np.mgrid[0:48, 0:64]
    levels = np.stack([x * 3, y * 5, x + y, 255 - x * 4], axis=-1).clip(0, 255).astype(np.uint8)
    return Image.fromarray(levels[..., : len(channels) or 3])


def turned(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    ramp().save(path, "JPEG", exif=exif, quality=95)
    return path


def kinds(folder: Path) -> dict[str, Path]:
    """A photo of every kind that a careless reader would see otherwise."""
    paths = {f"exif{n}": turned(folder / f"exif{n}.jpg", n) for n in range(2, 9)}
    ramp(1, 2, 3, 4).save(folder / "rgba.png")
    palette = ramp().convert("P")
    palette.save(folder / "palette.png", transparency=palette.getpixel((40, 20)))
    Image.fromarray((np.mgrid[0:48, 0:64][1] * 1000).astype(np.uint16)).save(folder / "deep.png")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ramp().save(folder / "profile.jpg", icc_profile=profile)
    ramp().save(folder / "wide.png", icc_profile=rgb_profile(colorants("p3")))
    ramp().convert("CMYK").save(folder / "cmyk.jpg")
    ramp().convert("L").save(folder / "grey.webp", lossless=True)
    return paths | {path.stem: path for path in folder.iterdir()}


def test_photos_are_as_serving_sees_them(tmp_path: Path) -> None:
    for name, path in kinds(tmp_path).items():
        photo = load_photo(path)
        np.testing.assert_array_equal(np.asarray(photo.whole().convert("RGB")), np.asarray(open_photo(path)), name)
        served = square(photo, SIDE, Levels(), antialias=True, native=kernels())
        np.testing.assert_array_equal(read_photo(path, SIDE), served, name)
        assert photo_shape(path).size == (photo.width, photo.height), name


def test_what_a_photo_is_like(tmp_path: Path) -> None:
    found = {name: photo_traits(path) for name, path in kinds(tmp_path).items()}
    assert {name for name, traits in found.items() if traits.is_turned} == {f"exif{n}" for n in range(2, 9)}
    assert {name for name, traits in found.items() if traits.is_transparent} == {"rgba", "palette"}
    assert {name for name, traits in found.items() if traits.is_deep} == {"deep"}
    assert {name for name, traits in found.items() if traits.has_profile} == {"profile", "wide"}
    assert {name for name, traits in found.items() if traits.is_converted} == {"wide"}


def test_the_cache_holds_upright_photos_beside_upright_labels(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data", count=1)
    turned(root / "JPEGImages" / "photo0.jpg", 6)
    label = np.zeros((64, 48), np.uint8)
    label[:, :24] = 15
    Image.fromarray(label).save(root / "semseg" / "photo0.png")
    cache = cached(open_dataset(root, "train"), (Task.SEMSEG,), SIDE, tmp_path / "cache")
    np.testing.assert_array_equal(cache.photos[0], read_photo(root / "JPEGImages" / "photo0.jpg", SIDE))
    assert cache.aspect[0] == pytest.approx(48 / 64)
    Image.fromarray(label.T).save(root / "semseg" / "photo0.png")
    with pytest.raises(DataError, match=r"are drawn on the photo as it is stored.*mtlora data upright"):
        cached(open_dataset(root, "train"), (Task.SEMSEG,), SIDE, tmp_path / "cache")


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "torn.jpg"
    buffer = io.BytesIO()
    ramp().save(buffer, "JPEG")
    for data in (b"torn", buffer.getvalue()[:200]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"torn.jpg cannot be read as an image"):
            load_photo(path)
    path.unlink()
    with pytest.raises(DataError, match=r"torn.jpg"):
        photo_shape(path)
