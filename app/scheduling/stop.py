"""Stop signals for work in a thread: its deadline passed, or nobody waits for it any more."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from app.core.errors import ClientGoneError, DeadlineError


class Stop:
    """Leaving the `with` ends the work that looks here, wherever it is then."""

    def __init__(self, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        """deadline: on the clock"""
        self._deadline = deadline
        self._clock = clock
        self._left = False

    def check(self) -> None:
        """`DeadlineError` or `ClientGoneError` if the work is to stop; for any thread."""
        if self._left:
            raise ClientGoneError("nobody waits for this image any more: its encoding was stopped")
        if self._clock() >= self._deadline:
            raise DeadlineError("the deadline passed while the answer was encoded")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
