"""The policy as laws, and the promise to rare sets as a simulation in virtual time."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.scheduling.fair_queue import FairQueue, Flow
from benchmarks.simulate_fairness import BUSIER, LOADS, SECOND, Fifo, p95

BURST = 10
flows = st.builds(Flow, st.sampled_from("xyz"), st.sampled_from("abc"))
costs = st.integers(1, 8)
arrivals = st.lists(st.tuples(flows, costs), max_size=40)
steps = st.lists(st.one_of(st.none(), st.tuples(flows, costs)), max_size=80)  # None: one is taken

Item = tuple[Flow, int, int]  # flow, cost, number


def filled(entries: Iterable[tuple[Flow, int]]) -> tuple[FairQueue[Item], list[Item]]:
    queue: FairQueue[Item] = FairQueue(burst=BURST)
    items = [(flow, cost, number) for number, (flow, cost) in enumerate(entries)]
    for item in items:
        queue.push(item[0], item, item[1])
    return queue, items


def drain(queue: FairQueue[Item]) -> list[Item]:
    return [queue.pop() for _ in range(len(queue))]


@given(arrivals)
def test_work_conserving_everything_comes_out_once(entries: list[tuple[Flow, int]]) -> None:
    queue, items = filled(entries)
    assert len(queue) == len(items)
    assert sorted(queue) == sorted(items)
    assert sorted(drain(queue)) == sorted(items)
    assert len(queue) == 0


@given(steps)
def test_within_a_flow_in_order_of_arrival_whatever_happens_between(events: list[tuple[Flow, int] | None]) -> None:
    queue, _ = filled([])
    taken: list[Item] = []
    for number, event in enumerate(events):
        if event is not None:
            queue.push(event[0], (*event, number), event[1])
        elif len(queue):
            head = queue.peek()
            taken.append(queue.pop())
            assert taken[-1] == head
    taken += drain(queue)
    for flow in {item[0] for item in taken}:
        numbers = [number for f, _, number in taken if f == flow]
        assert numbers == sorted(numbers)


@given(st.lists(st.lists(costs, min_size=30, max_size=30), min_size=2, max_size=4), st.integers(0, 20))
def test_flows_that_always_wait_get_equal_service(per_flow: list[list[int]], late: int) -> None:
    """The bound of deficit round robin: over any time, two backlogged flows differ by less than burst + both maxima.

    The last flow comes after `late` others were served: it gets no arrears for the time before.
    """
    *early, last = [(Flow("x", str(i)), row) for i, row in enumerate(per_flow)]
    queue, _ = filled((flow, cost) for flow, row in early for cost in row)
    served = [queue.pop() for _ in range(min(late, 29))]
    begun = len(served)
    for number, cost in enumerate(last[1]):
        queue.push(last[0], (last[0], cost, 1000 + number), cost)
    left = Counter({flow: len(row) for flow, row in [*early, last]})
    left.subtract(item[0] for item in served)
    total: dict[Flow, int] = defaultdict(int)
    history = [dict(total)]
    while min(left.values()) > 0:
        flow, cost, _ = queue.pop()
        left[flow] -= 1
        total[flow] += cost
        history.append(dict(total))
    assert begun + len(history) > 1
    bound = BURST + 2 * max(map(max, per_flow))
    for i, then in enumerate(history):
        for now in history[i:]:
            got = [now.get(flow, 0) - then.get(flow, 0) for flow in left]
            assert max(got) - min(got) < bound


@given(st.lists(st.tuples(st.sampled_from("abcd"), costs), max_size=200), costs)
def test_nobody_starves(others: list[tuple[str, int]], cost: int) -> None:
    """However the others keep coming, an image is passed by a bounded amount of work of each, even if in deep debt."""
    queue: FairQueue[Item] = FairQueue(burst=BURST)
    mine, debt = Flow("x", "mine"), 16
    waiting = (mine, cost, -1)
    queue.push(mine, waiting, cost)
    queue.charge(mine, BURST + debt)
    passed: dict[str, int] = defaultdict(int)
    for number, (name, price) in enumerate(others):
        for extra in range(2):  # twice as many as are taken, so that somebody else always waits
            queue.push(Flow("x", name), (Flow("x", name), price, 2 * number + extra), price)
        taken = queue.pop()
        if taken == waiting:
            break
        passed[taken[0].adapter] += taken[1]
    assert all(work <= BURST + 8 + debt for work in passed.values())


def service(queue: FairQueue[Item], turns: int, by: Callable[[Flow], str]) -> dict[str, int]:
    got: dict[str, int] = defaultdict(int)
    for _ in range(turns):
        flow, cost, _ = queue.pop()
        got[by(flow)] += cost
    return got


def test_a_caller_gains_nothing_by_using_many_sets() -> None:
    many = [(Flow("greedy", f"s{i % 20}"), 4) for i in range(400)]
    queue, _ = filled(many + [(Flow("modest", "s0"), 4)] * 400)
    got = service(queue, 200, lambda flow: flow.caller)
    assert abs(got["greedy"] - got["modest"]) <= BURST + 2 * 4


def test_cost_counts_not_the_number_of_images() -> None:
    queue, _ = filled([(Flow("", "large"), 8)] * 100 + [(Flow("", "small"), 1)] * 800)
    got = service(queue, 450, lambda flow: flow.adapter)
    assert abs(got["large"] - got["small"]) <= BURST + 8 + 1


def test_equals_take_turns() -> None:
    queue, _ = filled([(Flow("", name), 4) for name in "aabcba"])
    assert "".join(item[0].adapter for item in drain(queue)) == "abcaba"


def test_a_rare_set_waits_for_no_backlog() -> None:
    queue, _ = filled([(Flow("", "busy"), 4)] * 50)
    for _ in range(5):
        queue.pop()
    rare = (Flow("", "rare"), 4, 99)
    queue.push(rare[0], rare, 4)
    assert queue.pop() == rare


def test_coming_back_at_once_gains_nothing() -> None:
    """Who sends the next image as soon as the last is answered gets half, not precedence for ever."""
    queue, _ = filled([(Flow("", "busy"), 5)] * 100)
    one = (Flow("", "eager"), 5, 1000)
    taken = []
    for _ in range(40):
        if one not in queue:
            queue.push(one[0], one, 5)
        taken.append(queue.pop())
    assert 18 <= taken.count(one) <= 22


def test_what_is_ahead_goes_first_within_its_flow_and_changes_no_turns() -> None:
    queue, _ = filled([(Flow("", "a"), 4), (Flow("", "a"), 4), (Flow("", "b"), 4)])
    for number in (7, 8):
        queue.push(Flow("", "a"), (Flow("", "a"), 4, number), 4, ahead=True)
    assert queue.discard(Flow("", "a"), (Flow("", "a"), 4, 7))
    assert [item[2] for item in drain(queue)] == [8, 2, 0, 1]


def test_what_is_discarded_costs_nothing() -> None:
    queue, items = filled([(Flow("", "a"), 4)] * 3 + [(Flow("", "b"), 4)])
    assert queue.discard(items[0][0], items[0])
    assert not queue.discard(items[0][0], items[0])
    assert not queue.discard(Flow("nobody", "c"), items[0])
    assert [item[2] for item in drain(queue)] == [1, 3, 2]


def test_a_flow_pays_for_what_turns_out_dearer() -> None:
    queue, _ = filled([(Flow("", "a"), 1)] * 20 + [(Flow("", "b"), 1)] * 20)
    assert queue.pop()[0].adapter == "a"
    queue.charge(Flow("", "a"), 5)
    assert "".join(queue.pop()[0].adapter for _ in range(6)) == "bbbbbb"
    queue.charge(Flow("", "gone"), 5)  # nobody there to pay


@pytest.mark.parametrize(("others", "rate"), LOADS)
def test_one_set_at_twenty_times_the_rate_leaves_the_others_their_p95(others: int, rate: float) -> None:
    """In virtual time, so exactly: the others load the device to 0.2 … 0.64 alone, the busy one adds 0.4 … 2."""
    rare = {f"rare{i}": rate for i in range(others)}
    alone = p95(Fifo, rare, horizon_s=4000)
    assert p95(Fifo, {**rare, "busy": BUSIER * rate}, horizon_s=4000) > 2 * alone  # so the test can fail
    assert p95(lambda: FairQueue(burst=4 * SECOND), {**rare, "busy": BUSIER * rate}, horizon_s=4000) <= 2 * alone
