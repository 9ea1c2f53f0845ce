"""Text of others: nothing in it can steer a terminal, or pass for another line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlora.vocabulary.shown import shown


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain, ünïcode, 写真 🐈 [red]", "plain, ünïcode, 写真 🐈 [red]"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\r\nb\tc\x7f", r"a\r\nb\tc\x7f"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("abc\u202etxt.exe\u2066\u2028\u2029", r"abc\u202etxt.exe\u2066\u2028\u2029"),
        ("\ud800\udc80 \ufeff\u200b\u00ad", r"\ud800\udc80 \ufeff\u200b\xad"),
        (7, "7"),
        ("", ""),
    ],
)
def test_what_is_no_letter_is_spelled_out(text: object, seen: str) -> None:
    assert shown(text) == seen


def test_what_is_long_is_cut() -> None:
    assert shown("x" * 30_000_000, 5) == "xxxxx… (30000000 characters)"
    assert shown("x" * 5, 5) == "xxxxx"


@given(st.text(st.characters(), max_size=50))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert shown(text).isprintable()
    assert shown(shown(text)) == shown(text)
