"""How much of an answer is taken in, whatever a server sends, and how long one attempt may last."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mtlora.errors import RemoteError

SLOWEST_BYTES_S = 65_536
"""What moves more slowly than this has no more time than the timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Most bytes of an answer, as they come over the wire and as they are unpacked.

    document_bytes: adapter sets, readiness
    maps_bytes:     the maps of one photo
    refusal_bytes:  a problem; of a longer one only its status is known
    """

    document_bytes: int = 64 * 2**20
    maps_bytes: int = 2 * 2**30
    refusal_bytes: int = 4 * 2**20

    def __post_init__(self) -> None:
        if min(self.document_bytes, self.maps_bytes, self.refusal_bytes) < 1:
            raise RemoteError(f"limits of answers are at least 1 byte, got {self}")


class Clock:
    """The time of one attempt: `timeout_s`, and a second for every 64 KiB that moved, in either direction.

    So a large body over a slow line has its time, and a server that sends a byte now and then gains none. It runs from
    the first byte that is sent: waiting for a free connection is not in it.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._began_s: float | None = None
        self._moved = 0

    def moved(self, count: int) -> None:
        """So many bytes came or went."""
        self._moved += count

    def left_s(self) -> float:
        """Seconds left; starts the clock."""
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        return self._began_s + self._timeout_s + self._moved / SLOWEST_BYTES_S - now_s

    def words(self) -> str:
        """Why an attempt ended."""
        return f"not whole after {self._timeout_s:g} s and a second for every {SLOWEST_BYTES_S} bytes of {self._moved}"


_clock: ContextVar[Clock | None] = ContextVar("clock of the attempt", default=None)


@contextmanager
def attempt(timeout_s: float) -> Iterator[None]:
    """All bytes that move in here belong to one attempt."""
    token = _clock.set(Clock(timeout_s))
    try:
        yield
    finally:
        _clock.reset(token)


def clock() -> Clock | None:
    """The clock of the attempt under way here."""
    return _clock.get()
