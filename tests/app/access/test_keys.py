"""Keys as values: parsed, checked, and never shown."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from app.access.keys import ApiKey, Scope, check_distinct, parse_keys

HASH = "5" * 64


def key(**changes: object) -> ApiKey:
    return ApiKey.model_validate({"label": "a", "sha256": HASH, "scopes": ["predict"], **changes})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plain-key", "is written LABEL:SHA256:SCOPE"),
        ("a:1234:predict", "64 lower-case hex"),
        (f"a:{'0' * 64}:", "unknown scope in ''"),
        (f"a:{'0' * 64}:predict+all", "known: predict, adapters:read"),
        (f"a:{'0' * 64}:predict,a:{'1' * 64}:predict", "a label of its own, got one more than once: a"),
        (f"a:{'0' * 64}:predict,b:{'0' * 64}:metrics", "a hash of its own, got one more than once: a, b"),
    ],
)
def test_entries_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("+", r"\+")) as caught:
        parse_keys(text)
    assert "0" * 64 not in str(caught.value)


def test_entries_are_read() -> None:
    one, two = parse_keys(f"cam.1:{HASH}:predict+adapters:read, ops:{'6' * 64}:metrics,")
    assert (one.label, one.scopes, one.namespace) == ("cam.1", frozenset({Scope.PREDICT, Scope.ADAPTERS_READ}), "")
    assert two.scopes == {Scope.METRICS}


@pytest.mark.parametrize(
    "changes",
    [
        {"label": ""},
        {"label": "a b"},
        {"label": "a\n"},
        {"sha256": "G" * 64},
        {"sha256": HASH + "\n"},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"namespace": "../x"},
        {"namespace": "a/b"},
        {"namespace": "a+b"},
        {"namespace": "A"},
        {"namespace": "a\n"},
        {"namespace": "x" * 33},
        {"quota": {"max_sets": -1}},
        {"quota": {"requests_per_minute": 0}},
        {"quota": {"max_set": 1}},
        {"expires": "2030-01-01T00:00:00"},
        {"admin": True},
    ],
)
def test_values_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        key(**changes)
    assert HASH not in str(caught.value)


def test_metrics_are_not_for_name_spaces() -> None:
    """They name every set of the server: a foreign one would show."""
    with pytest.raises(ValidationError, match="metrics tell of the whole server"):
        key(namespace="acme", scopes=["predict", "metrics"])


def test_nothing_shows_a_hash() -> None:
    assert HASH not in repr(key())
    with pytest.raises(ValueError, match="a hash of its own") as caught:
        check_distinct((key(), key(label="b")))
    assert HASH not in str(caught.value)


def test_expiry() -> None:
    now = datetime.now(UTC)
    assert key(expires=now - timedelta(seconds=1)).expired()
    assert not key(expires=now + timedelta(minutes=1)).expired()
    assert not key().expired()
