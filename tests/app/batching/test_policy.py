"""The batching policy as laws."""

from hypothesis import given
from hypothesis import strategies as st

from app.batching.policy import choose

waiting_lists = st.lists(st.sampled_from("abcd"), max_size=12)
turns = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9))


@given(waiting_lists, turns, st.integers(1, 8))
def test_work_conserving_and_bounded(waiting: list[str], served: dict[str, int], most: int) -> None:
    chosen = choose(waiting, served, most)
    assert len(chosen) == min(len(waiting), most)
    assert len(set(chosen)) == len(chosen)


@given(waiting_lists, turns, st.integers(1, 8))
def test_within_a_set_first_come_first_served(waiting: list[str], served: dict[str, int], most: int) -> None:
    chosen = choose(waiting, served, most)
    for key in set(waiting):
        mine = [p for p in chosen if waiting[p] == key]
        assert mine == [p for p, k in enumerate(waiting) if k == key][: len(mine)]


@given(waiting_lists.filter(bool), turns)
def test_the_set_served_longest_ago_goes_first(waiting: list[str], served: dict[str, int]) -> None:
    first = waiting[choose(waiting, served, 1)[0]]
    assert served.get(first, -1) == min(served.get(key, -1) for key in waiting)


def test_a_rare_set_waits_for_one_image_of_a_busy_one_not_for_its_backlog() -> None:
    waiting = ["busy"] * 50 + ["rare"]
    assert choose(waiting, {"busy": 7, "rare": 3}, 1) == [50]
    assert choose(waiting, {"busy": 7}, 4) == [50, 0, 1, 2]


def test_sets_take_turns() -> None:
    waiting, served, order = ["a", "a", "b", "c", "b", "a"], {}, []
    for turn in range(6):
        (position,) = choose(waiting, served, 1)
        key = waiting.pop(position)
        order.append(key)
        served[key] = turn
    assert order == ["a", "b", "c", "a", "b", "a"]
