"""The device cache: adapter sets on the device, kept while they are used. Lives on the event loop: no locks.

Loading runs in loader threads, one load per revision however many wait for it. A set is loaded first and others are
evicted then, so a failed load never costs an innocent set its place; the overshoot is at most one set per loader.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from app.core.errors import AdapterLoadError
from app.core.names import AdapterRef
from app.core.tiers import Tier, TierEvents
from app.residency.lru_budget import LruBudget
from app.scheduling.background_throttle import BackgroundThrottle


class Loaded(Protocol):
    """A set in memory, in whatever form the engine runs."""

    @property
    def cost_bytes(self) -> int:
        """Bytes that this set takes beyond the shared backbone."""
        ...


L = TypeVar("L", bound=Loaded)
L_co = TypeVar("L_co", bound=Loaded, covariant=True)


class Loader(Protocol[L_co]):
    """Where sets come from."""

    def load(self, ref: AdapterRef) -> L_co:
        """Bring a set to the device; blocks, so it is called in loader threads only."""
        ...

    def used(self, ref: AdapterRef) -> None:
        """A request uses a set that is on the device already."""


@dataclass(slots=True)
class Lease(Generic[L]):
    """The right to use a set in memory; while it is held the set stays. Release it exactly once."""

    ref: AdapterRef
    adapted: L
    cold: bool  # this request waited for the load
    _on_release: Callable[[AdapterRef], None]
    _released: bool = field(default=False, init=False)

    def release(self) -> None:
        """Give the right back; further calls do nothing."""
        if not self._released:
            self._released = True
            self._on_release(self.ref)


@dataclass(slots=True)
class Usage:
    """How often and when a set was asked for, since this process started."""

    uses: int = 0
    last_used: float | None = None  # seconds since the epoch


class DeviceCache(Generic[L]):
    """The sets in memory, within a budget of bytes."""

    def __init__(
        self,
        loader: Loader[L],
        executor: Executor,
        events: TierEvents,
        *,
        budget_bytes: int,
        parallel_loads: int = 1,
        failure_ttl_s: float = 10.0,
        patience_s: float = 1.0,
        throttle: BackgroundThrottle | None = None,
    ) -> None:
        self._loader = loader
        self._throttle = throttle or BackgroundThrottle()
        self._executor = executor
        self._events = events
        self._failure_ttl_s = failure_ttl_s
        self._patience_s = patience_s
        self._budget: LruBudget[AdapterRef] = LruBudget(budget_bytes)
        self._adapted: dict[AdapterRef, L] = {}
        self._loading: dict[AdapterRef, asyncio.Task[None]] = {}
        self._waiting: dict[AdapterRef, list[asyncio.Future[Lease[L]]]] = {}
        self._failed: dict[AdapterRef, tuple[float, AdapterLoadError]] = {}
        self._pinned: frozenset[AdapterRef] = frozenset()
        self._doomed: dict[AdapterRef, str] = {}  # with the reason why they go
        self._freed: deque[asyncio.Future[None]] = deque()
        self._room_wanted_since: deque[float] = deque()
        self._slots = asyncio.Semaphore(parallel_loads)
        self._users: Counter[AdapterRef] = Counter()
        self.usage: dict[str, Usage] = {}
        self.reach: Callable[[AdapterRef], Awaitable[None]] = _at_hand
        """Waits until a set can be read, so that no loader thread has to; `AdapterLoadError` if it cannot."""

    @property
    def used_bytes(self) -> int:
        """Bytes of all sets in memory."""
        return self._budget.used

    @property
    def budget_bytes(self) -> int:
        """Bytes that sets may take together."""
        return self._budget.budget

    def __len__(self) -> int:
        """How many revisions are in memory."""
        return len(self._budget)

    def resident(self) -> list[AdapterRef]:
        """What is in memory, least recently used first."""
        return self._budget.held()

    def cost(self, ref: AdapterRef) -> int:
        """Bytes that a revision takes in memory now; 0 if it is not there."""
        return self._budget.cost(ref) if ref in self._budget else 0

    def is_resident(self, ref: AdapterRef) -> bool:
        """Whether this revision is in memory now."""
        return ref in self._budget

    def peek(self, ref: AdapterRef) -> L | None:
        """The set if it is in memory, without a lease: for looking at, not for use."""
        return self._adapted.get(ref)

    def is_loading(self, ref: AdapterRef) -> bool:
        """Whether this revision is on its way."""
        return ref in self._loading

    def busy(self) -> set[AdapterRef]:
        """Revisions that are on their way, or resolved by a request that is not done."""
        return {*self._users, *self._loading}

    def failure(self, ref: AdapterRef) -> AdapterLoadError | None:
        """Why the last load of this revision failed; None if it did not."""
        return self._failed[ref][1] if ref in self._failed else None

    def leases(self) -> int:
        """How many leases are out."""
        return sum(self._budget.leases(ref) for ref in self._budget.held())

    def pin(self, refs: Iterable[AdapterRef]) -> None:
        """The revisions that may not be evicted from now on; replaces the former ones."""
        self._pinned = frozenset(refs)

    @contextmanager
    def using(self, ref: AdapterRef) -> Iterator[None]:
        """A request resolved `ref`: its file stays until the request is done, even if the set is deleted meanwhile."""
        self._users[ref] += 1
        try:
            yield
        finally:
            self._users[ref] -= 1
            if not self._users[ref]:
                del self._users[ref]
                self._wake_waiters()

    async def acquire(self, ref: AdapterRef) -> Lease[L]:
        """The set in memory, loaded first if need be, and kept there until the lease is released."""
        usage = self.usage.setdefault(ref.name, Usage())
        usage.uses, usage.last_used = usage.uses + 1, time.time()
        self._events.looked_up(ref in self._budget)
        while ref in self._budget and self._must_yield(ref):
            await self._next_release()
        if ref in self._budget:
            self._loader.used(ref)
            self._budget.lease(ref)
            return Lease(ref, self._adapted[ref], False, self._release)
        return await self._wait_for(ref)

    async def preload(self, ref: AdapterRef) -> None:
        """Bring a set into memory without using it, between predictions where there is time for that."""
        if ref in self._budget:
            return
        if ref in self._loading:
            (await self._wait_for(ref)).release()
            return
        async with self._throttle.change():
            if ref not in self._budget:  # nor wanted by a prediction meanwhile
                (await self._wait_for(ref)).release()

    def drop(self, ref: AdapterRef, reason: str) -> bool:
        """Remove a set from memory, at once or as soon as the last request is done with it; whether it was there."""
        self._failed.pop(ref, None)
        if ref not in self._budget:
            return False
        if self._budget.leases(ref):
            self._doomed[ref] = reason
        else:
            self._evict(ref, reason)
        return True

    async def idle(self, ref: AdapterRef) -> None:
        """Wait until nobody uses or loads `ref`."""
        while ref in self._users or ref in self._loading or (ref in self._budget and self._budget.leases(ref)):
            await self._next_release()

    async def _wait_for(self, ref: AdapterRef) -> Lease[L]:
        failed_at, error = self._failed.get(ref, (0.0, None))
        if error is not None and time.monotonic() - failed_at < self._failure_ttl_s:
            raise error
        future: asyncio.Future[Lease[L]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(ref, []).append(future)
        if ref not in self._loading:
            self._loading[ref] = asyncio.create_task(self._bring_in(ref), name=f"load {ref}")
        try:
            return await future
        except asyncio.CancelledError:
            # The lease may have been handed over in the very moment the request was given up.
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().release()
            raise

    async def _bring_in(self, ref: AdapterRef) -> None:
        try:
            await self.reach(ref)
            async with self._slots:
                adapted = await self._run_load(ref)
                await self._make_room(ref, adapted.cost_bytes)
                self._budget.add(ref, adapted.cost_bytes)
                self._adapted[ref] = adapted
        except AdapterLoadError as error:
            self._failed[ref] = (time.monotonic(), error)
            self._hand_out(ref, error)
        else:
            self._failed.pop(ref, None)
            self._hand_out(ref, None)
        finally:
            del self._loading[ref]
            self._wake_waiters()

    async def _run_load(self, ref: AdapterRef) -> L:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._loader.load, ref)
        except AdapterLoadError:
            raise
        except Exception as error:  # whatever a damaged file provokes, the waiting requests must get an answer
            detail = f"adapter set {ref} could not be loaded: {type(error).__name__}: {error}"
            raise AdapterLoadError(detail, self._failure_ttl_s) from error

    async def _make_room(self, ref: AdapterRef, need: int) -> None:
        fixed = sum(self._budget.cost(r) for r in self._pinned if r in self._budget and r != ref)
        if need + fixed > self._budget.budget:
            raise AdapterLoadError(
                f"adapter set {ref} needs {need} bytes; of {self._budget.budget} for all sets {fixed} are pinned",
                self._failure_ttl_s,
            )
        since = time.monotonic()
        self._room_wanted_since.append(since)
        try:
            while (victims := self._budget.victims(need, self._pinned)) is None:
                await self._next_release()
        finally:
            self._room_wanted_since.remove(since)
        for victim in victims:
            self._evict(victim, "room")

    def _hand_out(self, ref: AdapterRef, error: AdapterLoadError | None) -> None:
        for future in self._waiting.pop(ref, ()):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
                continue
            self._budget.lease(ref)
            future.set_result(Lease(ref, self._adapted[ref], True, self._release))

    def _release(self, ref: AdapterRef) -> None:
        left = self._budget.release(ref)
        if left == 0 and ref in self._doomed:
            self._evict(ref, self._doomed.pop(ref))
        self._wake_waiters()

    def _evict(self, ref: AdapterRef, reason: str) -> None:
        self._budget.remove(ref)
        del self._adapted[ref]
        self._events.evicted(Tier.DEVICE, reason)

    def _must_yield(self, ref: AdapterRef) -> bool:
        """Sets in constant use must not keep a newcomer out for ever: past its patience, hits wait for it."""
        oldest = self._room_wanted_since[0] if self._room_wanted_since else None
        return oldest is not None and ref not in self._pinned and time.monotonic() - oldest > self._patience_s

    async def _next_release(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._freed.append(future)
        await future

    def _wake_waiters(self) -> None:
        while self._freed:
            future = self._freed.popleft()
            if not future.done():
                future.set_result(None)


async def _at_hand(_: AdapterRef) -> None:
    """Nothing has to be waited for."""
