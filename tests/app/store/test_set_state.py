"""The state of a set as a value."""

import pytest
from pydantic import ValidationError

from app.store.set_state import SetState

DIGESTS = [f"{i:064x}" for i in range(4)]


def with_revisions(count: int) -> SetState:
    state = SetState(name="a")
    for digest in DIGESTS[:count]:
        state, _ = state.adding(digest, 10, "now", activate=True)
    return state


def test_the_first_revision_becomes_current_even_if_not_asked_for() -> None:
    state, revision = SetState(name="a").adding(DIGESTS[0], 10, "now", activate=False)
    assert (state.current, revision.revision) == (1, 1)


def test_numbers_are_never_given_twice() -> None:
    state = with_revisions(2).without(2 - 1).without(None)
    assert state.revisions == ()
    state, revision = state.adding(DIGESTS[2], 10, "now", activate=True)
    assert revision.revision == 3


def test_find_current_and_by_number() -> None:
    state = with_revisions(3)
    current, second = state.find(None), state.find(2)
    assert current is not None and current.revision == 3
    assert second is not None and second.digest == DIGESTS[1]
    assert state.find(9) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"current": 5}, "not among"),
        ({"next_revision": 2}, "next_revision"),
        ({"revisions": (), "current": 1}, "not among"),
    ],
)
def test_states_that_cannot_be(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        with_revisions(2).replacing(**changes)
