"""The share of compute that a queue can afford: quality gives way before anybody is refused. Pure functions."""

from collections.abc import Iterable
from typing import Protocol

from app.core.compute import Budget
from app.scheduling.cost_model import relative_cost

SHARES = tuple(percent / 100 for percent in range(100, 0, -5))
HEADROOM = 0.7
"""Of the time that is left until a deadline: what comes later, encoding and wrong estimates take the rest."""


class Waiting(Protocol):
    """An image in the queue."""

    @property
    def whole_us(self) -> int:
        """Microseconds of the engine for a whole pass."""
        ...

    @property
    def budget(self) -> Budget:
        """What it may cost."""
        ...

    @property
    def deadline(self) -> float:
        """On the clock of time.monotonic."""
        ...


def affordable(waiting: Iterable[Waiting], now: float, calm_s: float) -> float:
    """The largest share at which every image begins within `calm_s` and ends before most of its time is over.

    Images count in the order of their deadlines, each with the share nearest to this one that its budget allows. If
    even the smallest share is too much, that is the answer.
    """
    items = sorted(waiting, key=lambda item: item.deadline)
    return next((share for share in SHARES if _in_time(items, share, now, calm_s)), SHARES[-1])


def _in_time(items: list[Waiting], share: float, now: float, calm_s: float) -> bool:
    wait_s = 0.0
    for item in items:
        begins_s = wait_s
        wait_s += item.whole_us * relative_cost(item.budget.clamp(share)) / 1e6
        if begins_s > calm_s or wait_s > HEADROOM * (item.deadline - now):
            return False
    return True
