"""Memory for the bodies of predictions: bounded for all of them together, whoever sends them."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.core.errors import BodyMemoryError


class Hold:
    """What one request takes; given back when it is over."""

    def __init__(self, budget: "BodyBudget") -> None:
        self._budget = budget
        self.bytes = 0

    def grow(self, more: int) -> None:
        """So many bytes have come; `BodyMemoryError` if that is too much beside the others."""
        self.check(more)
        self.bytes += more
        self._budget.used += more

    def check(self, more: int) -> None:
        """`BodyMemoryError` if there is no room for so many more bytes now."""
        budget = self._budget
        if budget.used + more > budget.limit:
            raise BodyMemoryError(
                f"bodies of predictions may take {budget.limit} bytes together; {budget.used} are, {more} more came"
            )


class BodyBudget:
    """Bytes of bodies that were read and not yet answered. Only what has come counts: announcing takes no room."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """The share of one request, from its first byte to its answer."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            self.used -= hold.bytes
