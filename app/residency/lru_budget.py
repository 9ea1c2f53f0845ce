"""The least-recently-used order of sets within a budget: bookkeeping only, no tensors, no I/O, no clock.

Costs are bytes. A leased set is being used by a request and is never chosen; a pinned one only the operator removes.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Held:
    cost: int
    leases: int = 0


class LruBudget(Generic[K]):
    """Least recently used first, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._held: OrderedDict[K, _Held] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    def held(self) -> list[K]:
        """What is in memory, least recently used first."""
        return list(self._held)

    def cost(self, key: K) -> int:
        """Bytes that `key` takes."""
        return self._held[key].cost

    def leases(self, key: K) -> int:
        """How many requests use `key` now."""
        return self._held[key].leases

    def victims(self, need: int, pinned: Iterable[K] = ()) -> list[K] | None:
        """What to evict so that `need` more bytes fit; None if even all that may go is not enough."""
        kept = set(pinned)
        missing = self.used + need - self.budget
        chosen: list[K] = []
        for key, held in self._held.items():
            if missing <= 0:
                break
            if held.leases == 0 and key not in kept:
                chosen.append(key)
                missing -= held.cost
        return chosen if missing <= 0 else None

    def add(self, key: K, cost: int) -> None:
        """Count a set that is in memory now, as the most recently used."""
        if key in self._held:
            raise KeyError(f"{key} is in memory already")
        self._held[key] = _Held(cost)
        self.used += cost

    def touch(self, key: K) -> None:
        """Make `key` the most recently used."""
        self._held.move_to_end(key)

    def lease(self, key: K) -> None:
        """A request starts to use `key`, which makes it the most recently used."""
        self._held[key].leases += 1
        self.touch(key)

    def release(self, key: K) -> int:
        """A request is done with `key`; how many still use it."""
        held = self._held[key]
        if held.leases < 1:
            raise ValueError(f"{key} is not leased, so it cannot be released")
        held.leases -= 1
        return held.leases

    def remove(self, key: K) -> int:
        """Forget `key`; the bytes it took. Never called on a leased one."""
        held = self._held[key]
        if held.leases:
            raise ValueError(f"{key} is used by {held.leases} requests, so it cannot be removed")
        del self._held[key]
        self.used -= held.cost
        return held.cost
