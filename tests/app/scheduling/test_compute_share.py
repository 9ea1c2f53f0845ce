"""Less is computed before anybody has to wait too long, and only then."""

import math
from dataclasses import dataclass

import pytest

from app.core.compute import WHOLE, Budget
from app.scheduling.compute_share import HEADROOM, affordable
from app.scheduling.cost_model import relative_cost

AUTO = Budget(0.3, 1.0)
NOW = 1000.0


@dataclass
class Image:
    whole_us: int = 100_000
    budget: Budget = AUTO
    deadline: float = math.inf


def share(*images: Image, calm_s: float = 0.5) -> float:
    return affordable(images, NOW, calm_s)


def test_a_short_queue_is_computed_in_full() -> None:
    assert share(Image()) == 1.0
    assert share(*[Image()] * 5) == 1.0


def test_a_long_queue_is_computed_in_part_the_longer_the_less() -> None:
    found = [share(*[Image()] * count) for count in (6, 8, 10, 14, 40)]
    assert found == sorted(found, reverse=True)
    assert 0.3 < found[2] < 1
    assert found[-1] < 0.3  # as little as there is; budgets keep it from going below their own


def test_a_slow_engine_alone_is_no_queue() -> None:
    assert share(Image(whole_us=9_000_000)) == 1.0


def test_a_deadline_chooses_the_largest_share_that_meets_it() -> None:
    for left_s in (0.16, 0.12, 0.10, 0.08):
        found = share(Image(deadline=NOW + left_s))
        took_s = 0.1 * relative_cost(found)
        assert took_s <= HEADROOM * left_s + 1e-9
        assert found == 1.0 or 0.1 * relative_cost(found + 0.05) > HEADROOM * left_s


def test_the_nearest_deadline_counts_first() -> None:
    near, far = Image(deadline=NOW + 0.16), Image(deadline=NOW + 60)
    assert share(far, far, near) == 1.0


def test_who_may_not_be_lowered_still_takes_time() -> None:
    fixed = Image(budget=WHOLE)
    assert share(*[fixed] * 5, Image(), calm_s=0.45) == pytest.approx(0.01, abs=0.05)
    assert share(*[Image()] * 6, calm_s=0.45) > 0.7
