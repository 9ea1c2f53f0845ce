from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlora.data.cache import cached
from mtlora.data.layout import open_dataset
from mtlora.data.read import read_depth, read_grey, read_label, read_normals
from mtlora.data.records import LabelSource
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from testing.tiny_dataset import COUNT, SIZE, write_dataset

TASKS = (Task.SEMSEG, Task.SALIENCY, Task.NORMALS)


def test_holds_photos_and_labels_at_one_side(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data")
    cache = cached(open_dataset(root, "train"), TASKS, 32, tmp_path / "cache")
    assert cache.photos.shape == (COUNT, 3, 32, 32)
    assert cache.labels[Task.SEMSEG].shape == (COUNT, 1, 32, 32)
    assert cache.labels[Task.NORMALS].shape == (COUNT, 3, 16, 16)
    assert set(np.unique(cache.labels[Task.SEMSEG])) == {0, 15}
    np.testing.assert_allclose(cache.aspect, SIZE[0] / SIZE[1])
    with Image.open(root / "JPEGImages" / "photo2.jpg") as photo:
        expected = np.asarray(photo.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(cache.photos[2].astype(int), expected.transpose(2, 0, 1), atol=1)


def test_a_missing_label_is_all_ignore(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data")
    (root / "semseg" / "photo3.png").unlink()
    cache = cached(open_dataset(root, "train"), TASKS, 32, tmp_path / "cache")
    assert (cache.labels[Task.SEMSEG][3] == 255).all()
    assert cache.known[Task.SEMSEG].tolist() == [i != 3 for i in range(COUNT)]


def test_is_built_once(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data"), "train")
    calls: list[int] = []
    for _ in range(2):
        cached(dataset, TASKS, 32, tmp_path / "cache", lambda done, _total: calls.append(done))
    assert calls == list(range(1, COUNT + 1))
    cached(dataset, TASKS, 64, tmp_path / "cache", lambda done, _total: calls.append(done))
    assert len(calls) == 2 * COUNT


def test_a_changed_label_makes_another_cache(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data")
    before = cached(open_dataset(root, "train"), TASKS, 32, tmp_path / "cache")
    Image.new("L", SIZE, 7).save(root / "semseg" / "photo0.png")
    after = cached(open_dataset(root, "train"), TASKS, 32, tmp_path / "cache")
    assert (after.labels[Task.SEMSEG][0] == 7).all() and not (before.labels[Task.SEMSEG][0] == 7).any()


def test_damage_is_told(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data"), "train")
    cached(dataset, TASKS, 32, tmp_path / "cache")
    next((tmp_path / "cache").glob("*/aspect.npy")).write_bytes(b"torn")
    with pytest.raises(DataError, match="is damaged, delete it"):
        cached(dataset, TASKS, 32, tmp_path / "cache")


def test_a_colour_image_is_no_class_map(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"one 8-bit channel, got uint8 \(8, 8, 3\)"):
        read_label(LabelSource(read_grey, (tmp_path / "x.png",)), Task.SEMSEG)


def test_depth_is_kept_in_millimetres(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 64, 6401, 60000]] * 4, dtype=np.uint16)).save(tmp_path / "x.png")
    source = LabelSource(read_depth, (tmp_path / "x.png",))
    assert read_label(source, Task.DEPTH)[0, 0].tolist() == [0, 64, 6401, 60000]
    smaller = read_label(source, Task.DEPTH, 2)
    assert smaller.dtype == np.uint16 and set(smaller.ravel()) <= {64, 60000}


def test_grey_normals_and_8_bit_depth_are_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="normals must be an RGB image, got mode L"):
        read_normals(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"one 16-bit channel, got uint8 \(4, 4\)"):
        read_depth(tmp_path / "x.png")


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data"), "train")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file cannot be the folder of caches"):
        cached(dataset, TASKS, 32, tmp_path / "file")


def test_a_cache_of_another_reader_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data"), "train")
    monkeypatch.setattr("mtlora.data.cache._FORMAT", 2)
    cached(dataset, TASKS, 32, tmp_path / "cache")
    monkeypatch.undo()
    cached(dataset, TASKS, 32, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
