"""Clocks that tests set, and an event loop whose time they need not wait for."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class _SkippingSelector(selectors.DefaultSelector):
    """Where others would wait for so many seconds, these have passed."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None:
            self.passed_s += max(timeout, 0)
            timeout = 0
        return super().select(timeout)


class SkippingLoop(asyncio.SelectorEventLoop):
    """Its time stands still while anything can go on, and then leaps to the next timer. Not for work in threads."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.passed_s


def run_skipping(scenario: Coroutine[Any, Any, T]) -> T:
    """Run it on a loop of its own, which waits for nothing."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(scenario)
