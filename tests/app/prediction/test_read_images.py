"""Images in JSON bodies."""

import base64
import json

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.errors import BadBodyError, RequestError
from app.prediction.read_images import parse_json


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_bytes_come_back(images: list[bytes]) -> None:
    document = {"images": [base64.b64encode(data).decode() for data in images]}
    assert parse_json(json.dumps(document).encode()).images == tuple(images)


@given(st.binary(max_size=80) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
@example(b'{"":[]}')
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    try:
        parse_json(body)
    except (RequestError, RequestValidationError):
        return


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"image": "QQ==", "images": []}', 'either "image" or "images"'),
        (b"{}", 'either "image" or "images"'),
        (b'{"images": ["QQ==", 3]}', r"images\[1\] must be a base64 string, got int"),
        (b'{"image": "Q"}', "image is not base64"),
        (b"[" * 5_000, "cannot be parsed"),
        (b"[" * 100_000, "may have 10000 values"),
        (b'{"image": "", "x": [' + b"[]," * 100_000 + b"[]]}", "may have 10000 values"),
        (b'{"images": [' + b'"",' * 100_000 + b'""]}', "may have 10000 values"),
        (b'{"image": ' + b"9" * 5000 + b"}", "cannot be parsed"),
    ],
)
def test_refusals(body: bytes, words: str) -> None:
    with pytest.raises(BadBodyError, match=words):
        parse_json(body)
