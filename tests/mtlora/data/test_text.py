from pathlib import Path

import pytest

from mtlora.data.text import read_encoded, read_text, unified
from mtlora.vocabulary.errors import DataError


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", ""),
        ("utf-8-sig", "a byte order mark"),
        ("utf-16", "UTF-16 text"),
        ("utf-16-le", "UTF-16 text"),
        ("utf-32", "UTF-32 text"),
    ],
)
def test_encodings_are_seen(tmp_path: Path, encoding: str, told: str) -> None:
    (tmp_path / "a.txt").write_bytes("blatt\nf\u00fcr\n".encode(encoding))
    assert read_encoded(tmp_path / "a.txt") == ("blatt\nf\u00fcr\n", told)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"f\xfcr")
    with pytest.raises(DataError, match=r"a.txt is not UTF-8 text: byte 0xfc at 1.*iconv"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"b.txt cannot be read: No such file"):
        read_text(tmp_path / "b.txt")


def test_letters_of_two_parts_become_one() -> None:
    assert unified("u\u0308") == "\u00fc"
