"""The budget's bookkeeping against a plain model of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.residency.lru_budget import LruBudget


def filled(budget: int, **costs: int) -> LruBudget[str]:
    cache: LruBudget[str] = LruBudget(budget)
    for key, cost in costs.items():
        cache.add(key, cost)
    return cache


def test_least_recently_used_goes_first() -> None:
    cache = filled(10, a=4, b=4)
    cache.lease("a")
    cache.release("a")
    assert cache.victims(5) == ["b"]
    assert cache.victims(2) == []
    assert cache.victims(10) == ["b", "a"]
    assert cache.victims(11) is None


def test_leased_and_pinned_are_never_chosen() -> None:
    cache = filled(10, a=4, b=4)
    cache.lease("a")
    assert cache.victims(6) == ["b"]
    assert cache.victims(7) is None
    assert cache.victims(6, pinned=["b"]) is None


def test_misuse_is_refused() -> None:
    cache = filled(10, a=4)
    with pytest.raises(KeyError, match="in memory already"):
        cache.add("a", 1)
    with pytest.raises(ValueError, match="not leased"):
        cache.release("a")
    cache.lease("a")
    with pytest.raises(ValueError, match="used by 1"):
        cache.remove("a")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 6), st.sampled_from(["use", "lease", "release"]))))
def test_the_budget_holds_and_no_leased_key_ever_leaves(steps: list[tuple[str, int, str]]) -> None:
    cache: LruBudget[str] = LruBudget(12)
    leased: dict[str, int] = {}
    for key, cost, action in steps:
        if key not in cache:
            victims = cache.victims(cost)
            if victims is None:
                continue
            for victim in victims:
                assert victim not in leased
                cache.remove(victim)
            cache.add(key, cost)
        if action == "lease":
            cache.lease(key)
            leased[key] = leased.get(key, 0) + 1
        elif action == "release" and key in leased:
            cache.release(key)
            leased[key] -= 1
            if not leased[key]:
                del leased[key]
        assert cache.used <= 12
        assert cache.used == sum(cache.cost(k) for k in cache.held())
        assert {k for k in cache.held() if cache.leases(k)} == set(leased)
