"""The cache keeps what was used last, never more than its budget."""

from hypothesis import given
from hypothesis import strategies as st

from mtlora.vocabulary.recent import Recent


def test_what_was_used_longest_ago_goes_first() -> None:
    recent: Recent[str, int] = Recent(30)
    for name, value in (("a", 1), ("b", 2), ("c", 3)):
        recent.put(name, value, 10)
    assert recent.get("a") == 1
    recent.put("d", 4, 10)
    assert [recent.get(name) for name in "abcd"] == [1, None, 3, 4]


def test_a_new_value_replaces_the_former_one_and_its_size() -> None:
    recent: Recent[str, str] = Recent(10)
    recent.put("a", "large", 10)
    recent.put("a", "small", 1)
    recent.put("b", "fits", 9)
    assert (recent.get("a"), recent.get("b")) == ("small", "fits")


def test_what_exceeds_the_budget_is_not_kept() -> None:
    recent: Recent[str, str] = Recent(10)
    recent.put("a", "too large", 11)
    assert len(recent) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12))))
def test_the_budget_holds_whatever_comes(puts: list[tuple[int, int]]) -> None:
    recent: Recent[int, int] = Recent(20)
    for key, size in puts:
        recent.put(key, size, size)
        kept = [value for k in range(6) if (value := recent.get(k)) is not None]
        assert sum(kept) <= 20
        assert recent.get(key) == size
