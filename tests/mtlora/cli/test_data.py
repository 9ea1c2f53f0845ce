"""The commands under `mtlora data` that look at a dataset and mend it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mtlora.cli.main import cli
from mtlora.vocabulary.errors import DataError
from testing.tiny_dataset import SIZE, write_dataset


def data(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, arguments)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set", splits=())
    result = data("split", tmp_path / "set", "--val", "0.5")
    assert result.stdout == f"{tmp_path / 'set'}: train 3 photos, val 3 photos\n"
    return tmp_path / "set"


def test_a_check_prints_numbers_notes_and_problems(root: Path) -> None:
    result = data("check", root)
    assert result.exit_code == 0, result.output
    assert "train: 3 photos; labels: semseg 3, human_parts 3, saliency 3, normals 3" in result.stdout
    assert "0 background  86.67%  train 3  val 3" in result.stdout
    assert "saliency: 13.33% of the pixels are salient (128 or more); none in 0 of 6 labels" in result.stdout
    assert "normals: known in 100.00% of the pixels" in result.stdout
    assert result.stdout.endswith("no problems\n")


def test_problems_are_an_exit_status(root: Path) -> None:
    for index in range(5):
        (root / "semseg" / f"photo{index}.png").write_bytes(b"torn")
    result = data("check", root)
    assert result.exit_code == 1
    assert "1 problem:\n  - semseg labels cannot be read: 5, " in result.stdout and "and 2 more" in result.stdout
    whole = data("check", root, "--all-files").stdout
    assert all(f"semseg/photo{index}.png" in whole for index in range(5))


def test_masks_of_0_and_255_are_asked_about(root: Path) -> None:
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[:10] = 255
    for path in (root / "semseg").iterdir():
        Image.fromarray(mask).save(path)
    for classes in ("2", "background,thing"):
        result = data("check", root, "--semseg-classes", classes)
        assert result.exit_code == 1
        assert "Are these 0/255 masks?" in result.stdout and f"`mtlora data import masks {root} OUT`" in result.stdout


def test_labels_that_lie_on_their_side_are_turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    for path in (root / "JPEGImages").iterdir():
        with Image.open(path) as photo:
            photo.save(path, exif=exif)
    assert "photos, read as serving reads them: 6 turned by EXIF orientation\n" in data("check", root).stdout
    out = root.with_name("upright")
    result = data("upright", root, out)
    assert result.stdout == f"{out}: turned labels: semseg 6, human_parts 6, saliency 6, normals 6\n"
    assert data("check", out).stdout.endswith("no problems\n")


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    for path, told in ((tmp_path / "nowhere", "it does not exist"), (tmp_path, "a folder dataset has ImageSets/")):
        result = data("check", path)
        assert isinstance(result.exception, DataError) and told in str(result.exception)
