"""Bounded label values of a counter: the busiest names have their own, the rest share `other`."""

from threading import Lock

OTHER = "other"


class BoundedCounter:
    """Counts per name, exposing at most `limit` names. Every exposed series only ever rises while it exists.

    A name without a label that becomes twice as busy as the least busy labelled one takes its place; what the loser
    counted moves to `other`, so the sum over all series stays true.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._totals: dict[str, float] = {}
        self._shown: dict[str, float] = {}
        self._other = 0.0
        self._lock = Lock()

    def add(self, name: str, amount: float = 1) -> None:
        """Count `amount` for a name."""
        with self._lock:
            self._totals[name] = self._totals.get(name, 0) + amount
            if name not in self._shown and not self._admit(name):
                self._other += amount
            else:
                self._shown[name] = self._shown.get(name, 0) + amount

    def forget(self, name: str) -> None:
        """A name is gone (deleted set): its label goes, its counts stay in the sum."""
        with self._lock:
            self._totals.pop(name, None)
            self._other += self._shown.pop(name, 0)

    def samples(self) -> dict[str, float]:
        """Counts by label value; `other` is there once something was counted under it."""
        with self._lock:
            shown = dict(self._shown)
            if self._other:
                shown[OTHER] = self._other
            return shown

    def _admit(self, name: str) -> bool:
        if len(self._shown) < self._limit:
            return True
        least = min(self._shown, key=lambda shown: self._totals[shown], default=None)
        if least is None or self._totals[name] < 2 * self._totals[least]:
            return False
        self._other += self._shown.pop(least)
        return True
