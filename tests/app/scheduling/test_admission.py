"""Admission: bounded, shared, and honest about the wait."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import DeadlineError, QueueFullError, WaitTooLongError
from app.scheduling.admission import Admission, AdmissionLimits, Demand, Ticket
from app.scheduling.fair_queue import Flow

SECOND = 1_000_000


class Door:
    """An admission and whom it sent away again."""

    def __init__(self, images: int = 8, age_s: float = math.inf) -> None:
        self.admission = Admission(AdmissionLimits(images, age_s))
        self.evicted: list[Ticket] = []

    def admit(self, adapter: str, caller: str = "", **fields: Any) -> Ticket:
        reasons: list[QueueFullError] = []

        def evict(reason: QueueFullError) -> None:
            reasons.append(reason)
            self.evicted.append(ticket)

        ticket = self.admission.admit(demand(adapter, caller, **fields), evict)
        return ticket


def demand(adapter: str, caller: str = "", images: int = 1, cost_us: int = 0, **fields: Any) -> Demand:
    return Demand(Flow(caller, adapter), images, cost_us, fields.get("cold", False), fields.get("patience_s", math.inf))


def test_one_client_alone_may_fill_the_queue_and_is_then_refused_with_the_limit_named() -> None:
    door = Door()
    for _ in range(8):
        door.admit("hog")
    with pytest.raises(QueueFullError, match=r"8, of them 8 .* of at most 8 images .* \(MTLORA_MAX_QUEUE_IMAGES\)"):
        door.admit("hog")
    with pytest.raises(QueueFullError):
        door.admission.check(demand("hog"))
    assert door.admission.images == 8


def test_another_set_s_request_is_admitted_to_a_full_queue_and_the_newest_of_the_longest_gives_way() -> None:
    door = Door()
    tickets = [door.admit("hog") for _ in range(8)]
    door.admission.check(demand("rare"))
    assert door.evicted == []  # looking changes nothing
    door.admit("rare")
    assert door.evicted == [tickets[-1]]
    assert door.admission.images == 8


def test_a_caller_with_many_sets_gives_way_to_a_caller_with_one() -> None:
    door = Door()
    for number in range(8):
        door.admit(f"set{number}", caller="greedy")
    door.admit("set0", caller="modest")
    assert [ticket.demand.flow.caller for ticket in door.evicted] == ["greedy"]


def test_equals_do_not_push_each_other_out() -> None:
    door = Door()
    for number in range(8):
        door.admit("ab"[number % 2])
    for name in "ab":
        with pytest.raises(QueueFullError):
            door.admit(name)
    assert door.evicted == []


def test_who_is_through_the_model_does_not_give_way() -> None:
    door = Door()
    tickets = [door.admit("hog") for _ in range(8)]
    tickets[-1].begun = True
    door.admit("rare")
    assert door.evicted == [tickets[-2]]
    for ticket in tickets:
        ticket.begun = True
    with pytest.raises(QueueFullError):
        door.admit("rarer")


def test_several_give_way_to_a_request_of_several_images_or_none_does() -> None:
    door = Door()
    for _ in range(8):
        door.admit("hog")
    door.admit("rare", images=3)
    assert len(door.evicted) == 3
    with pytest.raises(QueueFullError):
        door.admit("other", images=6)  # would hold more than the hog then
    assert len(door.evicted) == 3


def test_places_are_free_again_image_by_image() -> None:
    door = Door()
    ticket = door.admit("a", images=8)
    with pytest.raises(QueueFullError):
        door.admit("a")
    door.admission.leave(ticket)
    assert door.admission.images == 7
    door.admit("a")


def test_cold_sets_take_half_of_the_queue_at_most_whoever_waits_for_them() -> None:
    door = Door()
    for number in range(4):
        door.admit(f"cold{number}", cold=True)
    with pytest.raises(QueueFullError, match="wait for adapter sets that are being loaded"):
        door.admit("cold9", cold=True)
    for _ in range(4):
        door.admit("hot")
    assert door.evicted == []
    assert door.admission.images == 8


def test_a_set_that_was_loaded_counts_as_any_other() -> None:
    door = Door()
    tickets = [door.admit("cold", cold=True) for _ in range(4)]
    for ticket in tickets:
        ticket.loading = False
    door.admit("colder", cold=True)


def test_a_request_of_more_images_than_may_load_is_admitted_when_none_loads() -> None:
    door = Door()
    door.admit("cold", images=6, cold=True)
    with pytest.raises(QueueFullError):
        door.admit("cold", cold=True)


def test_expected_wait_is_the_own_backlog_where_nobody_else_waits() -> None:
    door = Door()
    for _ in range(3):
        door.admit("a", cost_us=2 * SECOND)
    assert door.admission.expected_wait_s(demand("a", cost_us=2 * SECOND)) == 6
    assert door.admission.expected_wait_s(demand("a", cost_us=2 * SECOND, images=2)) == 6


def test_expected_wait_counts_of_others_no_more_than_comes_before_by_fair_turns() -> None:
    door = Door(64)
    for _ in range(20):
        door.admit("hog", cost_us=SECOND)
    assert door.admission.expected_wait_s(demand("rare", cost_us=SECOND)) == 1
    door.admit("rare", cost_us=SECOND)
    assert door.admission.expected_wait_s(demand("rare", cost_us=SECOND)) == 3  # its own, and two of the hog
    for number in range(10):
        door.admit(f"set{number}", caller="other", cost_us=SECOND)
    assert door.admission.expected_wait_s(demand("new", caller="third", cost_us=SECOND)) == 2  # one of each caller


def test_who_waits_for_a_set_does_not_count_for_the_wait() -> None:
    door = Door()
    door.admit("cold", cost_us=9 * SECOND, cold=True)
    assert door.admission.expected_wait_s(demand("hot", cost_us=SECOND)) == 0


def test_a_turn_that_would_come_too_late_is_refused_at_once_and_says_which_limit() -> None:
    door = Door(age_s=5)
    for _ in range(4):
        door.admit("a", cost_us=SECOND)
    with pytest.raises(WaitTooLongError, match=r"about 4\.0 s .* take 1\.0 s, its deadline allows 1\.5 s") as caught:
        door.admit("a", cost_us=SECOND, patience_s=1.5)
    assert caught.value.retry_after_s == 3.5
    door.admit("a", cost_us=2 * SECOND)
    with pytest.raises(WaitTooLongError, match="MTLORA_MAX_QUEUE_AGE_MS allows 5"):
        door.admit("a", cost_us=SECOND)
    door.admit("b", cost_us=SECOND, patience_s=5.0)  # its turn comes sooner


def test_a_request_s_own_pass_counts_too() -> None:
    door = Door()
    door.admit("a", cost_us=SECOND)
    with pytest.raises(WaitTooLongError, match=r"about 1\.0 s for its turn and take 2\.0 s, its deadline allows 2\.9"):
        door.admit("b", cost_us=SECOND, images=2, patience_s=2.9)
    door.admit("b", cost_us=SECOND, images=2, patience_s=3.0)


def test_a_deadline_below_the_own_pass_is_told_apart_because_coming_again_would_not_help() -> None:
    door = Door()
    door.admit("a", cost_us=SECOND)
    with pytest.raises(DeadlineError, match=r"about 1\.00 s for this request alone, its deadline allows 0\.90 s"):
        door.admission.check(demand("b", cost_us=SECOND, patience_s=0.9))


def test_where_nobody_waits_it_is_tried_so_that_no_wrong_estimate_shuts_the_door_for_ever() -> None:
    door = Door()
    door.admit("a", cost_us=SECOND, patience_s=0.1)


@pytest.mark.parametrize("waiting", [0, 1])
@pytest.mark.parametrize("late_s", [0.0, 0.001])
def test_a_deadline_that_has_passed_is_no_wait_that_is_too_long(waiting: int, late_s: float) -> None:
    """The client is told to allow more time, not to come again."""
    door = Door()
    for _ in range(waiting):
        door.admit("a", cost_us=SECOND)
    for refuse in (door.admission.check, lambda late: door.admission.admit(late, lambda _: None)):
        with pytest.raises(DeadlineError, match="passed before the request was admitted"):
            refuse(demand("a", cost_us=SECOND, patience_s=-late_s))
    assert door.admission.images == waiting


def test_nobody_is_refused_for_a_wait_before_anything_was_measured() -> None:
    door = Door(age_s=0.001)
    for _ in range(8):
        door.admit("a", cost_us=0, patience_s=0.001)


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc"), st.integers(1, 4), st.booleans())))
def test_never_more_than_the_limit_and_the_fair_share_is_never_refused(
    arrivals: list[tuple[str, str, int, bool]],
) -> None:
    door = Door(images=9)
    for caller, adapter, images, cold in arrivals:
        held = sum(t.images for t in door.admission._tickets if t.demand.flow.caller == caller)
        try:
            door.admit(adapter, caller, images=images, cold=cold)
        except QueueFullError:
            assert cold or held + images > 3  # three callers share nine places
        assert door.admission.images <= 9


def test_a_photo_that_turns_out_to_be_several_passes_takes_their_places_and_gives_them_back() -> None:
    door = Door()
    ticket = door.admit("hog")
    door.admission.grow(ticket, 6, math.inf)
    assert door.admission.images == 7
    with pytest.raises(QueueFullError):
        door.admission.grow(ticket, 2, math.inf)
    with pytest.raises(DeadlineError):
        door.admission.grow(ticket, 1, 0)
    assert door.admission.images == 7
    door.admission.leave(ticket, 7)
    assert door.admission.images == 0
