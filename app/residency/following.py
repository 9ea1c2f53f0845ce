"""Takes over what other server processes changed in the store they share, within a second. Lives on the event loop."""

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Executor

from app.errors import AdapterNotFoundError, ServiceError
from app.residency.catalog import Catalog
from app.residency.pins import Pins
from app.residency.service import AdapterService
from app.residency.state import SetState
from app.residency.store import AdapterStore

log = logging.getLogger(__name__)

POLL_S = 0.25
PRELOAD_S = 0.6  # a pinned set's new revision is loaded before it is used, but for no longer than this
PAUSE_S = 5.0  # after a failure, so that a store that is gone does not fill the log


class Follower:
    """Asks the store four times a second whether anything changed, which reads one small file."""

    def __init__(
        self, store: AdapterStore, catalog: Catalog, adapters: AdapterService, pins: Pins, executor: Executor
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._adapters = adapters
        self._pins = pins
        self._executor = executor

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.step()
            except (OSError, ServiceError):
                log.exception("cannot follow the adapter store")
                await asyncio.sleep(PAUSE_S)

    async def step(self) -> None:
        """Take over what has changed since the last step."""
        changed = await asyncio.get_running_loop().run_in_executor(self._executor, self._store.changes)
        if changed:
            await self._load_pinned(changed)
            self._store.adopt(changed.values())
            self._forget_deleted(changed)
            await self._pins.refresh()
            log.info("changes of other processes", extra={"adapters": sorted(changed)[:20], "count": len(changed)})
        self._pins.heal()

    async def _load_pinned(self, changed: Mapping[str, SetState]) -> None:
        loads = []
        for state in changed.values():
            try:
                entry = self._catalog.entry_of(state)
            except AdapterNotFoundError:  # deleted
                continue
            if entry.pinned and not self._adapters.residency.is_resident(entry.ref()):
                loads.append(asyncio.create_task(self._adapters.residency.preload(entry.ref())))
        if loads:
            done, _ = await asyncio.wait(loads, timeout=PRELOAD_S)
            for load in done:
                load.exception()  # `Pins.heal` tries again and tells why it fails

    def _forget_deleted(self, changed: Mapping[str, SetState]) -> None:
        residency = self._adapters.residency
        for ref in {*residency.resident(), *residency.busy(), *self._adapters.host.held()}:
            state = changed.get(ref.name)
            if state is not None and not self._catalog.is_bundled(ref.name) and state.find(ref.revision) is None:
                self._adapters.vanish(ref)
        for state in changed.values():
            if not state.revisions and not self._catalog.is_bundled(state.name):
                self._adapters.forget(state.name)
