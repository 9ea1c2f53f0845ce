"""The store watcher: takes over within a second what other processes changed in the store. Lives on the event loop."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from app.core.errors import AdapterNotFoundError, ServiceError, StoreUnavailableError, lasting
from app.registry.catalog import Catalog
from app.registry.lifecycle import AdapterLifecycle
from app.registry.pins import Pins
from app.store.adapter_store import AdapterStore
from app.store.open_no_link import NOT_ANSWERED
from app.store.set_state import SetState
from app.store.store_threads import StoreThreads

log = logging.getLogger(__name__)

POLL_S = 0.25
PRELOAD_S = 0.6  # a pinned set's new revision is loaded before it is used, but for no longer than this
CHECK_S = 1.0  # so often, whether sets could be changed; and so long the lock may be held by others meanwhile
SLOW_S = 3.0  # a store that takes longer to answer is said to hang
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with the store, and since when (monotonic), where that is known."""

    state: str
    since: float | None

    def after(self, former: "_Fault | None") -> "_Fault":
        """This one, which goes on if it was so before."""
        if former is None or former.state != self.state or former.since is None or self.since is None:
            return self
        return _Fault(self.state, min(former.since, self.since))

    def told(self, now: float) -> str:
        """In words."""
        return self.state if self.since is None else lasting(self.state, now - self.since)


class Question:
    """Something that the store is asked again and again, and what is wrong with its answers. Logs when that changes."""

    def __init__(self, what: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._threads = StoreThreads(what, threads=1, waiting=0, timeout_s=timeout_s)
        self._asked: float | None = None  # when, as long as there is no answer
        self._fault: _Fault | None = None

    @property
    def fault(self) -> str:
        """Why there was no answer the last time, or is none now; empty: there is."""
        now = self._clock()
        if self._asked is not None and now - self._asked > SLOW_S:
            return _Fault(NOT_ANSWERED, self._asked).after(self._fault).told(now)
        return self._fault.told(now) if self._fault else ""

    async def ask(self, work: Callable[[], T]) -> T:
        """The answer; what it raises is remembered."""
        self._asked = self._clock()
        try:
            answer = await self._threads.run(work)
        except ServiceError as error:
            self._remember(error)
            raise
        finally:
            self._asked = None
        if self._fault:
            log.info("the adapter store can be used again", extra={"while": self._what})
        self._fault = None
        return answer

    def _remember(self, error: ServiceError) -> None:
        if not self._fault:
            log.error("the adapter store cannot be used", extra={"while": self._what, "reason": error.detail})
        fault = _Fault(error.detail, None)
        if isinstance(error, StoreUnavailableError) and error.lasting_s is not None:
            fault = _Fault(error.state, self._clock() - error.lasting_s)
        self._fault = fault.after(self._fault)


class StoreWatcher:
    """Asks the store four times a second whether anything changed, which reads one small file.

    And every second whether sets could be changed: `fault` says why not. Where the store wants it, it is swept too.
    """

    def __init__(
        self, store: AdapterStore, catalog: Catalog, adapters: AdapterLifecycle, pins: Pins, timeout_s: float
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._adapters = adapters
        self._pins = pins
        self._following = Question("following", timeout_s)
        self._checking = Question("checking", timeout_s)
        self._sweeping = StoreThreads("sweep", threads=1, waiting=0, timeout_s=timeout_s)

    @property
    def fault(self) -> str:
        """Why the store cannot be followed or changed; empty: it can."""
        return self._following.fault or self._checking.fault

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_again_and_again(self.step, POLL_S), name="follow changes")
            tasks.create_task(_again_and_again(self.check, CHECK_S), name="check the store")
            if (pause_s := self._store.traits.sweep_every_s) is not None:
                tasks.create_task(_again_and_again(self.sweep, pause_s), name="sweep the store")

    async def check(self) -> None:
        """Whether sets could be changed now."""
        await self._checking.ask(lambda: self._store.check(CHECK_S))

    async def sweep(self) -> None:
        """Remove what crashes left in the store, if that is due."""
        await self._sweeping.run(self._store.sweep)

    async def step(self) -> None:
        """Take over what has changed since the last step."""
        changed = await self._following.ask(self._store.changes)
        if changed:
            await self._load_pinned(changed)
            self._store.adopt(changed.values())
            self._forget_deleted(changed)
            await self._pins.refresh()
            log.info("changes of other processes", extra={"adapters": sorted(changed)[:20], "count": len(changed)})
        elif self._pins.stale:
            await self._pins.refresh()
        self._pins.heal()

    async def _load_pinned(self, changed: Mapping[str, SetState]) -> None:
        loads = []
        for state in changed.values():
            try:
                entry = self._catalog.entry_of(state)
            except AdapterNotFoundError:  # deleted
                continue
            if entry.pinned and not self._adapters.device_cache.is_resident(entry.ref()):
                loads.append(asyncio.create_task(self._adapters.device_cache.preload(entry.ref())))
        if loads:
            done, _ = await asyncio.wait(loads, timeout=PRELOAD_S)
            for load in done:
                load.exception()  # `Pins.heal` tries again and tells why it fails

    def _forget_deleted(self, changed: Mapping[str, SetState]) -> None:
        device_cache = self._adapters.device_cache
        for ref in {*device_cache.resident(), *device_cache.busy(), *self._adapters.host.held()}:
            state = changed.get(ref.name)
            if state is not None and not self._catalog.is_bundled(ref.name) and state.find(ref.revision) is None:
                self._adapters.vanish(ref)
        for state in changed.values():
            if not state.revisions and not self._catalog.is_bundled(state.name):
                self._adapters.forget(state.name)


async def _again_and_again(step: Callable[[], Awaitable[None]], pause_s: float) -> None:
    while True:
        await asyncio.sleep(pause_s)
        with suppress(ServiceError):  # its question has told
            await step()
