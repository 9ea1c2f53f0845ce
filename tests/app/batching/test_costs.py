"""What an image costs: a guess from the shape, then what was measured."""

import pytest

from app.batching import costs
from app.batching.costs import Costs
from mtlora.tasks import Task
from tests.factories import adapter_spec

SMALL = adapter_spec()
LARGE = adapter_spec(image_size=128)
ONE, TWO = (Task.SEMSEG,), (Task.SEMSEG, Task.NORMALS)


def test_the_guess_grows_with_pixels_and_tasks() -> None:
    guess = Costs()
    assert not guess.known
    assert guess.estimate_us(LARGE, ONE) == pytest.approx(4 * guess.estimate_us(SMALL, ONE), rel=1e-3)
    assert guess.estimate_us(SMALL, ONE) < guess.estimate_us(SMALL, TWO) < 2 * guess.estimate_us(SMALL, ONE)


def test_measurements_replace_the_guess_and_set_the_scale_for_shapes_never_seen() -> None:
    known = Costs()
    ratio = known.estimate_us(LARGE, TWO) / known.estimate_us(SMALL, ONE)
    for _ in range(3):
        known.measured(SMALL, ONE, 0.5)
    assert known.known
    assert known.estimate_us(SMALL, ONE) == 500_000
    assert known.estimate_us(LARGE, TWO) == pytest.approx(500_000 * ratio, rel=1e-3)


def test_estimates_follow_slowly_so_that_one_outlier_counts_little() -> None:
    known = Costs()
    known.measured(SMALL, ONE, 1.0)
    known.measured(SMALL, ONE, 6.0)
    assert known.estimate_us(SMALL, ONE) == 2_000_000
    for _ in range(50):
        known.measured(SMALL, ONE, 6.0)
    assert known.estimate_us(SMALL, ONE) == pytest.approx(6_000_000, rel=0.01)


def test_shapes_are_forgotten_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SHAPES_KEPT", 2)
    known = Costs()
    guess = known.estimate_us(SMALL, ONE)
    for shape in ((SMALL, ONE), (LARGE, ONE), (SMALL, TWO)):
        known.measured(*shape, seconds=9.0)
    assert len(known._measured_us) == 2
    assert known.estimate_us(SMALL, ONE) != guess  # by the scale of the others
