"""Base64 as programs write it is decoded; what is refused is named."""

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadBodyError
from app.http.base64_text import decode_base64

DATA = bytes(range(256)) + b"\xfb\xff\xfe"  # every character of both alphabets, and padding
PLAIN = base64.b64encode(DATA + b"1").decode()
OF_URLS = base64.urlsafe_b64encode(DATA + b"1").decode()


@pytest.mark.parametrize("text", [PLAIN, OF_URLS])
@pytest.mark.parametrize(
    "written",
    [
        lambda text: text,
        lambda text: text.rstrip("="),
        lambda text: "\n".join(textwrap.wrap(text, 76)) + "\n",
        lambda text: "\r\n".join(textwrap.wrap(text.rstrip("="), 64)),
        lambda text: f" \t{text}\n\n",
        lambda text: f"data:image/jpeg;base64,{text}",
        lambda text: f"DATA:IMAGE/JPEG;BASE64,{text}",
        lambda text: f"data:image/png;name=a.png;charset=utf-8;base64,\n{text}\n",
        lambda text: f"data:;base64,{text}",
    ],
)
def test_all_ways_to_write_it(text: str, written: "type[str]") -> None:
    assert decode_base64(written(text), "image") == DATA + b"1"


@given(st.binary(max_size=60), st.integers(0, 80), st.booleans())
def test_any_bytes_in_any_alphabet_come_back(data: bytes, at: int, is_of_urls: bool) -> None:
    text = (base64.urlsafe_b64encode if is_of_urls else base64.b64encode)(data).decode().rstrip("=")
    assert decode_base64(text[:at] + " \n" + text[at:], "image") == data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (7, "image must be a base64 string, got int"),
        ("AAAA!AAA", "image is not base64: '!' at position 4"),
        ("data:;base64,AA\u00e4A", "'\u00e4' at position 15"),
        ("AA==AAAA", "'=' at position"),
        ("AAAAA", "5 characters are one too many or some too few"),
        ("+A-A", "mixes two alphabets, + and / with the URL-safe - and _"),
        ("https://example.org/a.jpg", "a web address, 'https://example.org/a.jpg'; the server fetches nothing"),
        ("file:///etc/passwd", "the server fetches nothing"),
        ("data:image/svg+xml,%3Csvg%3E", "a data: URL that is not base64"),
    ],
)
def test_what_is_refused_is_named(text: object, words: str) -> None:
    with pytest.raises(BadBodyError, match=words.replace("+", r"\+").replace("?", r"\?")):
        decode_base64(text, "image")
