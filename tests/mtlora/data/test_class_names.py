from pathlib import Path

import pytest

from mtlora.data.class_names import checked_classes, read_class_files, read_classes
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task


@pytest.mark.parametrize(
    "text", [b"background\nleaf\n", b"\xef\xbb\xbfbackground\r\nleaf\r\n\r\n", "background\nleaf".encode("utf-16")]
)
def test_one_name_a_line_however_it_is_written(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "classes.txt").write_bytes(text)
    assert read_class_files(tmp_path) == {Task.SEMSEG: ("background", "leaf")}


def test_each_task_has_its_file(tmp_path: Path) -> None:
    assert read_class_files(tmp_path) == {}
    (tmp_path / "classes-human_parts.txt").write_text("background\nhand\n")
    assert read_class_files(tmp_path) == {Task.HUMAN_PARTS: ("background", "hand")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no class"),
        ("a\n\nb\n", "class 1 has no name"),
        ("a\na\n", "two classes are called 'a'"),
        ("a,b,c\n", "one name a line"),
        ("0 a\n1 b\n", "numbers before the names"),
        ("0: a\n1: b\n", "numbers before the names"),
        ("x" * 101, "more than 100 characters"),
        ("\n".join(f"c{index}" for index in range(256)), "256 classes, but label values are 0..254"),
    ],
)
def test_faults_are_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=told) as caught:
        read_classes(path)
    assert str(path) in str(caught.value)


def test_names_may_begin_with_numbers_of_their_own() -> None:
    assert checked_classes(["background", "2 wheels"], "here") == ("background", "2 wheels")
