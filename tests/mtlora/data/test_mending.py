from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlora.data.check import check_dataset
from mtlora.data.mending import turned_vectors, write_splits, write_upright
from mtlora.data.read import read_classes, read_depth
from mtlora.images.photo import TURNS
from mtlora.vocabulary.errors import DataError
from testing.label_files import grey_png
from testing.tiny_dataset import COUNT, SIZE, write_dataset


def test_splits_hold_every_labelled_photo_once(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, count=10, splits=())
    (root / "ImageSets").rmdir()
    for folder in ("semseg", "human_parts", "saliency", "normals"):
        (root / folder / "photo3.png").unlink()
    assert write_splits(root, 0.25, 0) == {"train": 7, "val": 2}
    lists = {split: (root / "ImageSets" / f"{split}.txt").read_text().split() for split in ("train", "val")}
    assert sorted(lists["train"] + lists["val"]) == [f"photo{i}" for i in range(10) if i != 3]
    with pytest.raises(DataError, match="has lists already: train, val"):
        write_splits(root, 0.25, 0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_both_splits_need_photos(tmp_path: Path, share: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        write_splits(tmp_path, share, 0)
    with pytest.raises(DataError, match="has 0 photos with labels"):
        write_splits(tmp_path, 0.5, 0)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_labels_are_turned_as_their_photos_are(tmp_path: Path, orientation: int) -> None:
    root = write_dataset(tmp_path / "data")
    exif = Image.Exif()
    exif[0x0112] = orientation
    for path in (root / "JPEGImages").iterdir():
        with Image.open(path) as photo:
            photo.save(path, exif=exif)
    turned = write_upright(root, tmp_path / "out", untold=True)
    assert turned == dict.fromkeys(("semseg", "human_parts", "saliency", "normals"), COUNT)
    assert check_dataset(tmp_path / "out", ["train"]).problems == ()
    with Image.open(root / "semseg" / "photo1.png") as stored, Image.open(tmp_path / "out/semseg/photo1.png") as made:
        np.testing.assert_array_equal(np.asarray(made), np.asarray(stored.transpose(TURNS[orientation])))


@pytest.mark.parametrize("kind", ["depth", "palette", "bits", "few bits"])
def test_labels_of_every_kind_keep_their_values(tmp_path: Path, kind: str) -> None:
    root = write_dataset(tmp_path / "data", count=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "JPEGImages" / "photo0.jpg") as photo:
        photo.save(root / "JPEGImages" / "photo0.jpg", exif=exif)
    task, read = ("depth", read_depth) if kind == "depth" else ("semseg", read_classes)
    (root / task).mkdir(exist_ok=True)
    path = root / task / "photo0.png"
    values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE[::-1])
    if kind == "depth":
        Image.fromarray((values * 31).astype(np.uint16)).save(path)
    elif kind == "bits":
        Image.fromarray(values % 2 == 1).save(path)
    elif kind == "palette":
        image = Image.fromarray((values % 5).astype(np.uint8))
        image.putpalette([9, 8, 7] * 256)
        image.save(path)
    else:
        path.write_bytes(grey_png((values % 4).astype(np.uint8), 2))
    before = read(path)
    assert before.any()
    write_upright(root, tmp_path / "out", untold=False)
    np.testing.assert_array_equal(read(tmp_path / "out" / task / "photo0.png"), np.rot90(before, -1))


def test_labels_that_lie_well_stay(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data")
    assert set(write_upright(root, tmp_path / "out", untold=True).values()) == {0}
    with pytest.raises(DataError, match="exists already"):
        write_upright(root, tmp_path / "out", untold=False)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_normals_turn_with_their_picture(orientation: int) -> None:
    """A slope's x and y are how its height grows to the right and down: turning the heights says the same."""
    heights = np.random.default_rng(0).random((9, 7)).astype(np.float32)
    stored = _encoded(heights)
    upright = np.asarray(Image.fromarray(heights).transpose(TURNS[orientation]))
    turned = np.asarray(Image.fromarray(stored).transpose(TURNS[orientation]))
    found, expected = turned_vectors(turned, orientation), _encoded(upright)
    np.testing.assert_allclose(found[1:-1, 1:-1].astype(int), expected[1:-1, 1:-1].astype(int), atol=1)


def _encoded(heights: np.ndarray) -> np.ndarray:
    down, right = np.gradient(heights)
    vectors = np.stack([right, down, -np.ones_like(heights)], axis=-1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return ((vectors + 1) * 127.5).round().astype(np.uint8)
