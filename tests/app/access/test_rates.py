"""Buckets of tokens, with a clock that the test moves."""

from hypothesis import given
from hypothesis import strategies as st

from app.access.rates import Rates
from testing.clocks import Clock


def test_a_minutes_requests_at_once_then_as_fast_as_it_refills() -> None:
    clock = Clock()
    rates = Rates(clock)
    assert [rates.take("a", 3) for _ in range(3)] == [0, 0, 0]
    assert rates.take("a", 3) == 20
    clock.now += 19
    assert round(rates.take("a", 3), 6) == 1
    clock.now += 1.001
    assert rates.take("a", 3) == 0
    assert rates.take("a", 3) > 19
    clock.now += 3600
    assert [rates.take("a", 3) > 0 for _ in range(4)] == [False, False, False, True]


def test_names_do_not_share() -> None:
    rates = Rates(Clock())
    assert (rates.take("a", 1), rates.take("b", 1)) == (0, 0)
    assert rates.take("a", 1) > 0


def test_a_lower_limit_counts_at_once() -> None:
    rates = Rates(Clock())
    rates.take("a", 1000)
    assert [rates.take("a", 2) > 0 for _ in range(3)] == [False, False, True]


@given(st.integers(1, 500), st.lists(st.floats(0, 5), max_size=200))
def test_never_more_than_a_bucket_and_what_refilled(limit: int, pauses: list[float]) -> None:
    clock = Clock()
    rates, start, admitted = Rates(clock), clock.now, 0
    for pause in pauses:
        clock.now += pause
        admitted += rates.take("a", limit) == 0
    assert admitted <= limit + (clock.now - start) * limit / 60 + 1e-6
