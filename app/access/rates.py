"""Limits of requests per minute: one bucket of tokens for each name, refilled evenly."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

MINUTE_S = 60.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    stamp: float


class Rates:
    """A bucket holds a minute's requests, so that many may come at once; then they come as fast as it refills."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, name: str, per_minute: int) -> float:
        """Take one request's token: 0 if there was one, else the seconds until there will be."""
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(per_minute, now))
        refilled = bucket.tokens + (now - bucket.stamp) * per_minute / MINUTE_S
        bucket.tokens, bucket.stamp = min(refilled, per_minute), now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) * MINUTE_S / per_minute
        bucket.tokens -= 1
        return 0.0

    def keep(self, names: Collection[str]) -> None:
        """Forget every other name."""
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if name in names}
