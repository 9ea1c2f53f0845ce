"""Labels stay bounded and the sum stays true."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.labels import OTHER, BoundedCounter


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(1, 5))), st.integers(0, 4))
def test_bounded_and_true(steps: list[tuple[str, int]], limit: int) -> None:
    counter, total = BoundedCounter(limit), Counter[str]()
    before: dict[str, float] = {}
    for name, amount in steps:
        counter.add(name, amount)
        total[name] += amount
        samples = counter.samples()
        assert len(samples.keys() - {OTHER}) <= limit
        assert sum(samples.values()) == total.total()
        assert all(samples[name] >= before[name] for name in samples.keys() & before.keys())
        before = samples


def test_a_busy_newcomer_takes_the_label_of_an_idle_set() -> None:
    counter = BoundedCounter(1)
    counter.add("idle")
    for _ in range(5):
        counter.add("busy")
    assert counter.samples() == {"busy": 4, OTHER: 2}


def test_deleted_names_leave() -> None:
    counter = BoundedCounter(2)
    counter.add("a", 3)
    counter.forget("a")
    assert counter.samples() == {OTHER: 3}
