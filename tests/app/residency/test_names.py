"""Names never become paths before they matched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import AdapterNotFoundError, BadParameterError
from app.residency.names import NAME, check_name, parse_reference


@given(st.from_regex(NAME, fullmatch=True), st.integers(1, 999_999_999))
def test_a_reference_is_parsed_back(name: str, revision: int) -> None:
    assert parse_reference(name) == (name, None)
    assert parse_reference(f"{name}@{revision}") == (name, revision)
    assert check_name(name) == name


@given(st.text(max_size=80))
def test_whatever_passes_is_one_harmless_path_component(text: str) -> None:
    try:
        name = check_name(text)
    except BadParameterError:
        return
    assert "/" not in name and name not in {".", ".."} and "\0" not in name and len(name) <= 64


@pytest.mark.parametrize("text", ["", "@1", "a@", "a@0", "a@01", "a@-1", "a@1@2", "A", "a b", "../a", "a\n", "a@²"])
def test_what_names_nothing_is_not_found(text: str) -> None:
    with pytest.raises(AdapterNotFoundError, match="NAME or NAME@REVISION"):
        parse_reference(text)
