"""A small cache of what was used last, within a sum of sizes. Safe to share between threads."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key; those used longest ago go first where the sizes exceed the budget (one unit for both)."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._used = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """The value, which is then the one used last; None if it is not here."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value, in place of the key's former one; what is larger than the whole budget is not kept."""
        with self._lock:
            self._used -= self._kept.pop(key, (None, 0))[1]
            self._kept[key] = (value, size)
            self._used += size
            while self._used > self._budget:
                self._used -= self._kept.popitem(last=False)[1][1]
