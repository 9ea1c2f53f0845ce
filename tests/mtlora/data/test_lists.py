from pathlib import Path

import pytest

from mtlora.data.lists import PhotoList, files_by_id, read_list
from mtlora.vocabulary.errors import DataError

IDS = ("a_1", "b 2", "c.x", "f\u00fcr")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "ImageSets"):
        (tmp_path / folder).mkdir()
    for name in IDS:
        (tmp_path / "JPEGImages" / f"{name}.jpg").touch()
    return tmp_path


def read(root: Path, data: bytes) -> PhotoList:
    (root / "ImageSets" / "train.txt").write_bytes(data)
    photos = files_by_id(root / "JPEGImages", (".jpg",))
    return read_list(root / "ImageSets", "train", photos, root / "JPEGImages")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_encoding_of_unicode_and_any_line_end(root: Path, encoding: str, end: str) -> None:
    found = read(root, end.join(IDS).encode(encoding))
    assert found.ids == IDS and found.problems == ()
    assert bool(found.notes) == (encoding != "utf-8")


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("a_1.jpg", "names of files"),
        ("a_1.JPG", "names of files"),
        ("JPEGImages/a_1.jpg", "paths"),
        ("C:\\data\\JPEGImages\\a_1.jpg", "paths"),
        ("a_1  -1", "more than one column"),
        ("a_1.jpg,a_1.png", "more than one column"),
        ("/JPEGImages/a_1.jpg /SegmentationClass/a_1.png", "more than one column"),
        ('"a_1"', "quotes"),
    ],
)
def test_lines_as_other_programs_write_them(root: Path, line: str, how: str) -> None:
    found = read(root, line.encode())
    assert found.ids == ("a_1",) and found.problems == ()
    (note,) = found.notes
    assert note.where == (line,) and how in note.cause


def test_ids_with_blanks_and_dots_are_ids(root: Path) -> None:
    assert read(root, b"b 2\nc.x\n") == PhotoList(("b 2", "c.x"))


def test_headings_and_comments_are_left_out(root: Path) -> None:
    found = read(root, b"filename\n# mine\na_1\n")
    assert found.ids == ("a_1",) and found.problems == ()
    assert found.notes[0].where == ("filename", "# mine")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("A_1", "only in other capitals: 1, A_1 (there: a_1)"),
        ("d", "of a kind that is not read: 1, d (d.raw)"),
        ("e", "are missing in JPEGImages/: 1, 'e'"),
    ],
)
def test_lines_that_name_no_photo_by_their_cause(root: Path, line: str, told: str) -> None:
    (root / "JPEGImages" / "d.raw").touch()
    (problem,) = read(root, line.encode()).problems
    assert told in problem.line()


def test_a_folder_that_is_not_there_is_one_problem(root: Path) -> None:
    (root / "JPEGImages").rename(root / "images")
    (problem,) = read(root, b"a_1\nb 2\n").problems
    assert "there is no folder JPEGImages/, only ImageSets/, images/" in problem.cause and len(problem.where) == 2


def test_another_encoding_is_told_with_the_files_name(root: Path) -> None:
    with pytest.raises(DataError, match=r"train.txt is not UTF-8 text: byte 0xfc at 1"):
        read(root, "f\u00fcr\n".encode("latin1"))


def test_letters_with_accents_are_the_same_either_way(root: Path) -> None:
    assert read(root, "fu\u0308r".encode()).ids == ("f\u00fcr",)


def test_lists_one_folder_deeper_are_told(root: Path) -> None:
    (root / "ImageSets" / "Main").mkdir()
    (root / "ImageSets" / "Main" / "train.txt").write_text("a_1\n")
    with pytest.raises(DataError, match=r"there are lists in ImageSets/Main/"):
        read_list(root / "ImageSets", "train", (), root / "JPEGImages")


def test_what_other_systems_leave_behind_is_no_photo(root: Path) -> None:
    (root / "JPEGImages" / "._a_1.jpg").touch()
    assert set(files_by_id(root / "JPEGImages", (".jpg",))) == set(IDS)
