"""The host cache: checked adapter sets in main memory, so that the device cache need not read files again.

What is here are copies, never mappings: a deleted file is really gone, and the bytes counted are the bytes held.
A set on the device keeps its copy here while there is room, and every use on the device counts as a use of the copy.
"""

import threading
from collections.abc import Callable

from app.core.names import AdapterRef
from app.residency.lru_budget import LruBudget
from mtlora.weights.adapter_file import AdapterSet


class HostCache:
    """Adapter sets within a budget of bytes, least recently used first. Thread-safe."""

    def __init__(self, budget_bytes: int, on_evicted: Callable[[str], None]) -> None:
        self._budget: LruBudget[AdapterRef] = LruBudget(budget_bytes)
        self._on_evicted = on_evicted  # gets the reason
        self._sets: dict[AdapterRef, AdapterSet] = {}
        self._lock = threading.Lock()

    def __contains__(self, ref: AdapterRef) -> bool:
        return ref in self._sets

    def __len__(self) -> int:
        return len(self._sets)

    @property
    def used_bytes(self) -> int:
        """Bytes of all sets here."""
        return self._budget.used

    def held(self) -> list[AdapterRef]:
        """What is here, least recently used first."""
        with self._lock:
            return self._budget.held()

    def peek(self, ref: AdapterRef) -> AdapterSet | None:
        """The set, which does not count as a use."""
        return self._sets.get(ref)

    def get(self, ref: AdapterRef) -> AdapterSet | None:
        """The set, which becomes the most recently used."""
        with self._lock:
            if ref in self._sets:
                self._budget.touch(ref)
            return self._sets.get(ref)

    def put(self, ref: AdapterRef, adapter: AdapterSet, *, displace: bool = True) -> None:
        """Keep a set, in place of the least recently used; one that is larger than the whole budget is not kept.

        displace: whether others may have to go for it
        """
        evicted: list[AdapterRef] = []
        with self._lock:
            victims = None if ref in self._sets else self._budget.victims(adapter.bytes)
            if victims is not None and (displace or not victims):
                evicted = [victim for victim in victims if self._remove(victim)]
                self._budget.add(ref, adapter.bytes)
                self._sets[ref] = adapter
        for _ in evicted:
            self._on_evicted("room")

    def touch(self, ref: AdapterRef) -> None:
        """Make a set the most recently used, if it is here."""
        with self._lock:
            if ref in self._sets:
                self._budget.touch(ref)

    def drop(self, ref: AdapterRef, reason: str) -> bool:
        """Remove a set; whether it was here."""
        with self._lock:
            removed = self._remove(ref)
        if removed:
            self._on_evicted(reason)
        return removed

    def _remove(self, ref: AdapterRef) -> bool:
        if ref in self._sets:
            self._budget.remove(ref)
        return self._sets.pop(ref, None) is not None
