"""Limits of answers: how much is received, whatever a server sends, and how long one attempt may last."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mtlora.vocabulary.errors import BadAnswerError, RemoteError

HEAD_BYTES = 2**18  # of all heads of an answer; httpcore takes no single one of more than 100 KiB
SLOWEST_BYTES_S = 65_536
"""What moves more slowly than this has no more time than the timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Most bytes of an answer, as they come over the wire and as they are unpacked.

    document_bytes: adapter sets, readiness
    maps_bytes:     the maps of one photo
    refusal_bytes:  a problem; of a longer one only its status is known
    """

    document_bytes: int = 32 * 2**20
    maps_bytes: int = 2 * 2**30
    refusal_bytes: int = 4 * 2**20

    def __post_init__(self) -> None:
        if min(self.document_bytes, self.maps_bytes, self.refusal_bytes) < 1:
            raise RemoteError(f"limits of answers are at least 1 byte, got {self}")


class Allowance:
    """What one attempt may take: time, and bytes that come.

    The time is `timeout_s`, and a second for every 64 KiB that moved, in either direction: so a large body over a slow
    line has its time, and a server that sends a byte now and then gains none. It runs from the first byte that is sent:
    waiting for a free connection is not in it.
    The bytes are counted as they come, so that heads without end, or chunks that are all frame, come to one too.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s, self._most_bytes = timeout_s, HEAD_BYTES
        self._began_s: float | None = None
        self._sent = self._received = 0

    def sent(self, count: int) -> None:
        """So many bytes went."""
        self._sent += count

    def received(self, count: int) -> None:
        """So many bytes came; `BadAnswerError` if they are too many."""
        self._received += count
        if self._received > self._most_bytes:
            raise BadAnswerError(f"an answer without end: more than {self._most_bytes} bytes came with its head")

    def head_came(self, most_bytes: int) -> None:
        """A body of so many bytes may follow, with the frames of its chunks."""
        self._most_bytes = HEAD_BYTES + 2 * most_bytes

    def left_s(self) -> float:
        """Seconds left; starts the clock."""
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        return self._began_s + self._timeout_s + (self._sent + self._received) / SLOWEST_BYTES_S - now_s

    def words(self) -> str:
        """What became of the time."""
        return f"not whole after {self._timeout_s:g} s, with {self._sent} bytes sent and {self._received} received"


_allowance: ContextVar[Allowance | None] = ContextVar("allowance of the attempt", default=None)


@contextmanager
def attempt(timeout_s: float) -> Iterator[Allowance]:
    """All bytes that move in here belong to one attempt."""
    given = Allowance(timeout_s)
    token = _allowance.set(given)
    try:
        yield given
    finally:
        _allowance.reset(token)


def allowance() -> Allowance | None:
    """Of the attempt under way here."""
    return _allowance.get()
