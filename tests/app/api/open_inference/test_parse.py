"""Bodies of the Open Inference Protocol, good and lying."""

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from app.api.open_inference.parse import parse_request, unpack
from app.core.errors import BadBodyError, RequestError
from testing.oip_requests import LYING, body, head, packed


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_elements_come_back(elements: list[bytes]) -> None:
    binary = packed(*elements)
    sent = body(head(size=len(binary), input={"shape": [len(elements)]}), binary)
    assert parse_request(*sent).images == tuple(elements)


def test_everything_is_read() -> None:
    asked = parse_request(
        head(
            data=["QUJD"],
            id="7",
            outputs=[{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}],
            parameters={"binary_data_output": True, "timeout": 5},
        ),
        None,
        4,
    )
    assert (asked.images, asked.id, asked.binary, asked.timeout_us) == ((b"ABC",), "7", True, 5)
    assert [(o.name, o.parameters.binary_data) for o in asked.outputs] == [("a", True), ("b", None)]


@pytest.mark.parametrize("name", LYING)
def test_lies(name: str) -> None:
    sent, error, words = LYING[name]
    with pytest.raises(error, match=words or None):
        parse_request(*sent)


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=5), st.integers(0, 250).map(str)))
def test_any_bytes_are_read_or_refused(content: bytes, announced: str | None) -> None:
    try:
        parse_request(content, announced, 4)
    except (RequestError, RequestValidationError):
        return


@given(st.binary(max_size=60), st.integers(0, 5))
def test_what_is_unpacked_packs_again(content: bytes, count: int) -> None:
    try:
        elements = unpack(memoryview(content), count)
    except BadBodyError:
        return
    assert packed(*elements) == content
