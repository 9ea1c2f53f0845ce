"""What an image costs: a guess from the shape, then what was measured of its set."""

import pytest

from app.core.names import AdapterRef
from app.scheduling import cost_model
from app.scheduling.cost_model import Costs, Workload, guess_us, relative_cost, shares
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec

SMALL = adapter_spec()
LARGE = adapter_spec(image_size=128)
ONE, TWO = (Task.SEMSEG,), (Task.SEMSEG, Task.NORMALS)


def work(spec: AdapterSpec, tasks: tuple[Task, ...], name: str = "a", revision: int = 1) -> Workload:
    return Workload(AdapterRef(name, revision, "0"), spec, tasks)


def test_the_guess_grows_with_pixels_and_tasks() -> None:
    guess = Costs()
    assert not guess.known
    small, large = guess.estimate_us(work(SMALL, ONE)), guess.estimate_us(work(LARGE, ONE))
    assert large == pytest.approx(4 * small, rel=1e-3)
    assert small < guess.estimate_us(work(SMALL, TWO)) < 2 * small


def test_measurements_replace_the_guess_and_set_the_scale_for_shapes_never_seen() -> None:
    known = Costs()
    ratio = known.estimate_us(work(LARGE, TWO)) / known.estimate_us(work(SMALL, ONE))
    for _ in range(3):
        known.measured(work(SMALL, ONE), 0.5)
    assert known.known
    assert known.estimate_us(work(SMALL, ONE)) == 500_000
    assert known.estimate_us(work(LARGE, TWO)) == pytest.approx(500_000 * ratio, rel=1e-3)


def test_a_part_of_the_compute_costs_a_part_and_tells_of_the_whole() -> None:
    known = Costs()
    for _ in range(3):
        known.measured(work(SMALL, ONE)._replace(compute=0.4), 0.2)
    assert known.estimate_us(work(SMALL, ONE)._replace(compute=0.4)) == 200_000
    whole = known.estimate_us(work(SMALL, ONE))
    assert whole == pytest.approx(200_000 / relative_cost(0.4), rel=1e-5)
    assert relative_cost(0.0) > 0
    assert relative_cost(1.0) == 1


def test_estimates_follow_slowly_so_that_one_outlier_counts_little() -> None:
    known = Costs()
    known.measured(work(SMALL, ONE), 1.0)
    known.measured(work(SMALL, ONE), 6.0)
    assert known.estimate_us(work(SMALL, ONE)) == 2_000_000
    for _ in range(50):
        known.measured(work(SMALL, ONE), 6.0)
    assert known.estimate_us(work(SMALL, ONE)) == pytest.approx(6_000_000, rel=0.01)


def test_a_slow_set_makes_no_other_one_look_slow() -> None:
    known = Costs()
    known.measured(work(SMALL, ONE, "fast"), 0.05)
    for _ in range(50):
        known.measured(work(SMALL, ONE, "slow"), 7.0)
    assert known.estimate_us(work(SMALL, ONE, "slow")) == pytest.approx(7_000_000)
    assert known.estimate_us(work(SMALL, ONE, "fast")) == pytest.approx(50_000)
    assert known.estimate_us(work(SMALL, ONE, "new")) == pytest.approx(50_000)  # as the others of its shape
    guessed = guess_us(LARGE, TWO) / guess_us(SMALL, ONE)
    assert known.estimate_us(work(LARGE, TWO, "new")) == pytest.approx(50_000 * guessed, rel=1e-3)  # as all others


def test_another_revision_is_another_set() -> None:
    known = Costs()
    known.measured(work(SMALL, ONE, "other"), 0.05)
    known.measured(work(SMALL, ONE, "a", revision=1), 7.0)
    assert known.estimate_us(work(SMALL, ONE, "a", revision=2)) == pytest.approx(50_000)


def test_a_new_set_starts_as_the_sets_of_its_own_shape_do() -> None:
    known = Costs()
    for number, seconds in enumerate((0.1, 0.2, 9.0)):
        known.measured(work(SMALL, ONE, f"small{number}"), seconds)
    for number in range(9):
        known.measured(work(LARGE, TWO, f"large{number}"), 5.0)
    assert known.estimate_us(work(SMALL, ONE, "new")) == pytest.approx(200_000)
    assert known.estimate_us(work(LARGE, TWO, "new")) == pytest.approx(5_000_000)


def test_the_sets_measured_longest_ago_are_forgotten_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_model, "SETS_KEPT", 2)
    known = Costs()
    known.measured(work(SMALL, ONE, "a"), 1.0)
    known.measured(work(SMALL, ONE, "b"), 2.0)
    known.measured(work(SMALL, ONE, "a"), 1.0)
    known.measured(work(LARGE, TWO, "c"), 64.0)
    assert known.estimate_us(work(SMALL, ONE, "b")) == 1_000_000  # as a, the only one left of its shape
    known.measured(work(LARGE, TWO, "d"), 64.0)
    assert list(known._slowness) == [(LARGE, TWO)]
    assert len(known._kept) == len(known._slowness[LARGE, TWO]) == 2


def test_a_pass_is_shared_out_by_what_was_expected_of_each_image() -> None:
    assert shares(6.0, [100, 100, 400]) == [1.0, 1.0, 4.0]
    assert shares(0.5, [7]) == [0.5]
    assert shares(0.1, []) == []
