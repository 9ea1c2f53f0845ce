from pathlib import Path

import pytest
from PIL import Image

from mtlora.data.layout import open_dataset, open_photos
from mtlora.data.photos import read_photo
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from testing.tiny_dataset import COUNT, write_dataset


def test_finds_every_photo_and_label(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path), "train", (Task.SEMSEG, Task.NORMALS))
    assert len(dataset) == COUNT
    assert dataset.records[0].labels.keys() == {Task.SEMSEG, Task.HUMAN_PARTS, Task.SALIENCY, Task.NORMALS}
    assert dataset.count(Task.DEPTH) == 0


def test_any_label_may_be_missing(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    (root / "semseg" / "photo0.png").unlink()
    dataset = open_dataset(root, "train", (Task.SEMSEG,))
    assert dataset.count(Task.SEMSEG) == COUNT - 1
    assert Task.SEMSEG not in dataset.records[0].labels


def test_all_problems_at_once(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    (root / "JPEGImages" / "photo1.jpg").unlink()
    with pytest.raises(DataError, match="2 problems") as caught:
        open_dataset(root, "train", (Task.EDGE,))
    assert "photo1" in caught.value.problems[0]
    assert "edge/" in caught.value.problems[1]


def test_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'test'.*train, val"):
        open_dataset(write_dataset(tmp_path), "test")


def test_a_photo_listed_twice_is_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    (root / "ImageSets" / "train.txt").write_text("photo0\nphoto1\nphoto0\n")
    with pytest.raises(DataError, match=r"twice:\n  - photo0"):
        open_dataset(root, "train")


def test_meta_says_where_labels_come_from(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    (root / "meta.csv").write_text("id,semseg,saliency\nphoto0,gt,pseudo\n")
    first, second, *_ = open_dataset(root, "val").records
    assert first.origin == {Task.SEMSEG: "gt", Task.SALIENCY: "pseudo"}
    assert second.origin == {}


def test_a_plain_folder_is_a_dataset_without_labels(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    photos = open_photos(root / "JPEGImages")
    assert [record.id for record in photos.records] == sorted(f"photo{i}" for i in range(COUNT))
    with pytest.raises(DataError, match="no photos"):
        open_photos(root)


def test_photos_may_be_webp(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    path = root / "JPEGImages" / "photo0.jpg"
    with Image.open(path) as photo:
        photo.save(path.with_suffix(".webp"), lossless=True)
        expected = read_photo(path, 32)
    path.unlink()
    record = open_dataset(root, "train").records[0]
    assert record.photo.suffix == ".webp"
    assert (read_photo(record.photo, 32) == expected).all()
