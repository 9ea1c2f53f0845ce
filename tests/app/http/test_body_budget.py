"""Memory of bodies: what is taken is given back, and no more is given than there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BodyMemoryError
from app.http.body_budget import BodyBudget


def test_requests_share_it_and_give_it_back() -> None:
    budget = BodyBudget(10)
    with budget.hold() as one, budget.hold() as two:
        one.grow(6)
        two.grow(4)
        with pytest.raises(BodyMemoryError, match="10 bytes together; 10 are, 1 more came"):
            two.grow(1)
        assert budget.used == 10
    assert budget.used == 0


def test_announcing_takes_nothing() -> None:
    budget = BodyBudget(10)
    with budget.hold() as one, budget.hold() as two:
        one.check(10)
        two.grow(5)
        with pytest.raises(BodyMemoryError):
            one.check(6)


@given(st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=6))
def test_never_more_than_the_limit_and_all_of_it_back(requests: list[list[int]]) -> None:
    budget = BodyBudget(20)
    for chunks in requests:
        with budget.hold() as hold:
            for size in chunks:
                try:
                    hold.grow(size)
                except BodyMemoryError:
                    break
                assert budget.used <= 20
        assert budget.used == 0
