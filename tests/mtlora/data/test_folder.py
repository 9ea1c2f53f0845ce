from pathlib import Path

import pytest
from PIL import Image

from mtlora.data.folder import collect, orphans, read_meta
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from testing.tiny_dataset import COUNT, write_dataset


def test_names_of_classes_come_with_the_dataset(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    (root / "classes.txt").write_text("background\nleaf\n")
    dataset = collect(root, "train").dataset
    assert dataset.classes[Task.SEMSEG] == ("background", "leaf")
    assert dataset.declared == {Task.SEMSEG: "classes.txt"}
    assert len(dataset.classes[Task.HUMAN_PARTS]) == 7


def test_endings_in_capitals_are_endings(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    for folder in ("JPEGImages", "semseg"):
        for path in list((root / folder).iterdir()):
            path.rename(path.with_suffix(path.suffix.upper()))
    found = collect(root, "train")
    assert found.problems == () and found.dataset.count(Task.SEMSEG) == COUNT


def test_two_files_of_one_id_are_told(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    Image.new("RGB", (4, 4)).save(root / "JPEGImages" / "photo0.png")
    (problem,) = collect(root, "train").problems
    assert problem.line().startswith("files of JPEGImages/ have the same ID: 1, photo0.jpg and photo0.png")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("photo0.jpg", "JPEG changes their values"),
        ("photo0.tif", "labels are PNG files"),
        ("photo0.txt", "mtlora data import auto"),
        ("photo0_mask.png", "takes off endings"),
    ],
)
def test_files_that_are_no_labels_are_told(tmp_path: Path, name: str, told: str) -> None:
    root = write_dataset(tmp_path)
    (root / "semseg" / "photo0.png").rename(root / "semseg" / name)
    (found,) = orphans(root)
    assert told in found.line() and name in found.line()


def test_meta_may_have_semicolons_and_names_of_files(tmp_path: Path) -> None:
    path = tmp_path / "meta.csv"
    path.write_bytes("id;semseg\r\na.jpg;gt\r\n".encode("utf-8-sig"))
    assert read_meta(path, ["a"]) == {"a": {"id": "a.jpg", "semseg": "gt"}}
    path.write_text("photo,semseg\na,gt\n")
    with pytest.raises(DataError, match="no column 'id', only photo, semseg"):
        read_meta(path, ["a"])
