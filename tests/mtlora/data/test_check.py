from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mtlora.cli.main import cli
from mtlora.data.check import check_dataset
from mtlora.vocabulary.tasks import Task
from testing.tiny_dataset import COUNT, write_dataset


def whole(root: Path) -> Path:
    """A dataset without fault: its splits share no photo."""
    write_dataset(root)
    (root / "ImageSets" / "train.txt").write_text("photo0\nphoto1\nphoto2\n")
    (root / "ImageSets" / "val.txt").write_text("photo3\nphoto4\nphoto5\n")
    return root


def test_a_whole_dataset_has_no_problems(tmp_path: Path) -> None:
    report = check_dataset(whole(tmp_path))
    assert report.problems == ()
    assert report.counts["train"] == {None: 3} | dict.fromkeys(
        (Task.SEMSEG, Task.HUMAN_PARTS, Task.SALIENCY, Task.NORMALS), 3
    )


def test_every_problem_at_once(tmp_path: Path) -> None:
    root = whole(tmp_path)
    Image.new("L", (48, 40), 30).save(root / "semseg" / "photo0.png")
    Image.new("L", (10, 10)).save(root / "saliency" / "photo1.png")
    Image.new("RGB", (48, 40)).save(root / "human_parts" / "photo2.png")
    (root / "JPEGImages" / "photo3.jpg").write_bytes(b"torn")
    (root / "semseg" / "photo4.png").write_bytes(b"torn")
    (root / "JPEGImages" / "photo5.jpg").unlink()
    Image.new("L", (48, 40)).save(root / "edge.png")
    (root / "meta.csv").write_text("id,semseg\nnobody,gt\n")
    (root / "ImageSets" / "train.txt").write_text("photo0\nphoto1\nphoto2\nphoto4\n")
    (root / "ImageSets" / "other.txt").write_text("\n")
    text = "\n".join(check_dataset(root).problems)
    for told in (
        "train: semseg/photo0.png has class 30, expected 0..20 or 255",
        "saliency/photo1.png is 10 x 10, the photo 48 x 40",
        "one 8-bit channel",
        "photo3.jpg cannot be read as an image",
        "semseg/photo4.png cannot be read as an image",
        "photo 'photo5' of split 'val' is missing in JPEGImages",
        "semseg/photo5.png belongs to no photo",
        "row for 'nobody'",
        "1 photos are in both train and val, such as photo4",
        "split 'other' is empty",
    ):
        assert told in text, told


def test_normals_must_be_about_one_long(tmp_path: Path) -> None:
    root = whole(tmp_path)
    Image.fromarray(np.full((8, 8, 3), 255, dtype=np.uint8)).save(root / "normals" / "photo0.png")
    assert check_dataset(root, ["train"]).problems == (
        "train: normals/photo0.png has normals of mean length 1.73, expected 1",
    )


def test_classes_of_ones_own(tmp_path: Path) -> None:
    problems = check_dataset(whole(tmp_path), class_counts={Task.SEMSEG: 2}).problems
    assert len(problems) == COUNT
    assert problems[0] == "train: semseg/photo0.png has class 15, expected 0..1 or 255"


def test_the_command(tmp_path: Path) -> None:
    root = whole(tmp_path)
    result = CliRunner().invoke(cli, ["data", "check", str(root)])
    assert result.exit_code == 0, result.output
    assert "train: 3 photos; labels: semseg 3, human_parts 3, saliency 3, normals 3" in result.stdout
    assert result.stdout.endswith("no problems\n")
    (root / "semseg" / "photo4.png").write_bytes(b"torn")
    result = CliRunner().invoke(cli, ["data", "check", str(root), "--split", "val"])
    assert result.exit_code == 1
    assert "1 problems:\n  - val: " in result.stdout


@pytest.mark.parametrize("layout", ["pascal", "nyud"])
def test_published_layouts_are_checked_too(tmp_path: Path, layout: str) -> None:
    published = pytest.importorskip("testing.published_datasets", reason="needs scipy")
    root = getattr(published, f"write_{layout}")(tmp_path)
    assert check_dataset(root).problems == ()
