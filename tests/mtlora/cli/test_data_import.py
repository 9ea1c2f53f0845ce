"""`mtlora data import`, as a user calls it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mtlora.cli.main import cli
from mtlora.data.importing.recognise import AUTO, FORMATS
from mtlora.vocabulary.errors import DataError
from testing.labelled_exports import scenes, write_cvat, write_labelme

PAGE = Path("docs/importing.md").read_text()
NAMES = ("disc", "square")


def data(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    write_cvat(folder, scenes(5), NAMES)
    return folder


def test_the_report_says_what_was_made_and_what_comes_next(root: Path, tmp_path: Path) -> None:
    result = data("import", "auto", root, tmp_path / "out")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{tmp_path / 'out'}: photos: train 4, val 1"
    assert lines[1].startswith("read as CVAT XML 1.1; where shapes overlap: the higher layer")
    assert lines[3].startswith("  1 disc: in 5 photos, ")
    assert lines[-1] == f"next: mtlora data check {tmp_path / 'out'}"
    assert data("check", tmp_path / "out").stdout.endswith("no problems\n")


def test_the_options_do_what_they_say(root: Path, tmp_path: Path) -> None:
    (root / "classes.txt").write_text("square\n")
    options = ("--split", "0.4", "--task", "semseg,saliency", "--classes", root / "classes.txt", "--copy")
    result = data("import", "cvat", root, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "photos: train 2, val 3" in result.stdout
    assert "became background, being no class of the list: disc" in result.stdout
    assert len(list((tmp_path / "out" / "saliency").iterdir())) == 5
    assert not any(path.is_symlink() for path in (tmp_path / "out" / "JPEGImages").iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--split", "1.5"), "--split is a share above 0, up to 1, got 1.5"),
        (("--task", "normals"), "--task is semseg or human_parts, and saliency alone or beside it, got normals"),
        (("--task", "semseg,human_parts"), "--task is semseg or human_parts"),
        (("--classes", "nowhere.txt"), "nowhere.txt cannot be read"),
        (("--photos", "nowhere"), "there is no folder or file nowhere"),
    ],
)
def test_options_that_make_no_sense(options: tuple[str, ...], said: str, root: Path, tmp_path: Path) -> None:
    result = data("import", "auto", root, tmp_path / "out", *options)
    assert isinstance(result.exception, DataError)
    assert said in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_not_touched(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    result = data("import", "auto", root, tmp_path / "out")
    assert "is there already, and not empty" in str(result.exception)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_export_in_place_of_a_dataset_is_recognised(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    write_labelme(folder, scenes(2), NAMES)
    result = data("check", folder)
    assert f"it looks like LabelMe JSON: mtlora data import labelme {folder} OUT" in str(result.exception)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_on_the_page_and_in_the_help(name: str) -> None:
    assert f"| `{name}` |" in PAGE
    shown = " ".join(data("import", "--help").stdout.replace("│", " ").split())
    assert name in shown
    assert AUTO in shown
    assert "docs/importing.md" in shown
