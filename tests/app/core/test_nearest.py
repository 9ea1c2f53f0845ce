"""Slips of the pen lead to what was meant, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.nearest import did_you_mean, nearest, unknown
from mtlora.vocabulary.tasks import Task

KNOWN = ("tasks", "adapter", "format", "masks", "logits", "deadline_ms")


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("task", "tasks"), ("adaptor", "adapter"), ("Adapter", "adapter"), ("TASKS", "tasks"),
        ("deadline", "deadline_ms"),
        ("deadlinems", "deadline_ms"), ("mask", "masks"), ("fromat", "format"), ("logit", "logits"),
        ("x", ""), ("", ""), ("utm_source", ""), ("a" * 10_000, ""),
    ],
)  # fmt: skip
def test_slips(slip: str, meant: str) -> None:
    assert nearest(slip, KNOWN) == meant


def test_one_name_of_many_is_found() -> None:
    names = [f"customer-{i:04}" for i in range(1000)] + ["street-scenes"]
    assert nearest("steet-scenes", names) == "street-scenes"


def test_sentences() -> None:
    assert did_you_mean("peopl", ["people", "default"]) == "; did you mean 'people'?"
    assert did_you_mean("zzz", ["people", "default"]) == ""
    assert unknown("key", "imag", ("image", "images")).startswith(
        "unknown key 'imag'; did you mean 'image'? known: image,"
    )
    assert unknown("key", "zzz", ()) == "unknown key 'zzz'; known: none"


@given(st.text(max_size=80), st.lists(st.text(max_size=12)))
def test_what_is_meant_is_known(name: str, known: list[str]) -> None:
    assert nearest(name, known) in {"", *known}


def test_members_of_enumerations_are_shown_as_clients_write_them() -> None:
    assert did_you_mean("semsex", tuple(Task)) == "; did you mean 'semseg'?"
