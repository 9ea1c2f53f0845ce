"""Names never become paths before they matched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import AdapterNotFoundError, BadParameterError
from app.core.names import (
    NAME,
    NAMESPACE_RULE,
    AdapterRef,
    check_name,
    folder_of,
    full_name,
    name_of,
    namespace_of,
    parse_reference,
    plain_name,
)


@given(st.from_regex(NAME, fullmatch=True), st.integers(1, 999_999_999))
def test_a_reference_is_parsed_back(name: str, revision: int) -> None:
    assert parse_reference(name) == (name, None)
    assert parse_reference(f"{name}@{revision}") == (name, revision)
    assert check_name(name) == name


@given(st.just("") | st.from_regex(NAMESPACE_RULE, fullmatch=True), st.from_regex(NAME, fullmatch=True))
def test_full_names_come_back_from_their_folders(namespace: str, name: str) -> None:
    full = full_name(namespace, name)
    assert (namespace_of(full), plain_name(full)) == (namespace, name)
    assert "/" not in folder_of(full)
    assert name_of(folder_of(full)) == full
    assert str(AdapterRef(full, 2, "")) == f"{name}@2"
    if namespace:
        assert not NAME.fullmatch(folder_of(full))  # no name of the global space shares the folder


@pytest.mark.parametrize("folder", ["+a", "a+", "a+b+c", "A+b", "a/b", "..+b", "a+..", "a+b\n", ".hidden"])
def test_other_folders_stand_for_nothing(folder: str) -> None:
    assert name_of(folder) is None


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
