"""Pins: sets that must stay on the device, the default one and those operators pinned. Lives on the event loop."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from app.core.errors import AdapterConflictError, AdapterLoadError, StoreUnavailableError
from app.core.names import AdapterRef
from app.registry.catalog import Catalog
from app.residency.device_cache import DeviceCache
from app.residency.loader import AdaptedSet
from app.store.store_threads import StoreThreads
from mtlora.vocabulary.spec import AdapterSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which pins are kept, and why the others cannot be."""

    kept: tuple[AdapterRef, ...] = ()
    refused: dict[AdapterRef, str] = field(default_factory=dict)


class Pins:
    """Keeps pinned sets on the device: never more than its budget less one set, or nothing else could be loaded."""

    def __init__(
        self,
        catalog: Catalog,
        device_cache: DeviceCache[AdaptedSet],
        device_bytes: Callable[[AdapterSpec], int],
        threads: StoreThreads,
    ) -> None:
        self._catalog = catalog
        self._device_cache = device_cache
        self._device_bytes = device_bytes
        self._threads = threads
        self.stale = False
        self._plan = Plan()
        self._healing: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Follow the catalog: from now on the current revisions of pinned sets may not be evicted.

        If the store does not answer, the pins stay as they were and are `stale`: to be refreshed when it does.
        """
        try:
            plan = await self._threads.run(self.plan)
        except StoreUnavailableError as error:
            self.stale = True
            log.warning("pinned adapter sets are not known for now", extra={"reason": error.detail})
            return
        self.stale = False
        for ref, reason in plan.refused.items():
            if ref not in self._plan.refused:
                log.error("pinned adapter set cannot be kept on the device", extra=_facts(ref) | {"reason": reason})
        self._plan = plan
        self._device_cache.pin(plan.kept)

    def plan(self, candidate: AdapterRef | None = None) -> Plan:
        """What to keep, the default set first; with a candidate last that takes its set's place. Blocking."""
        entries = [entry for entry in self._catalog.entries() if entry.pinned]
        wanted = {e.state.name: e.ref() for e in sorted(entries, key=lambda entry: not entry.default)}
        if candidate is not None:
            wanted.pop(candidate.name, None)
            wanted[candidate.name] = candidate
        kept: list[AdapterRef] = []
        refused: dict[AdapterRef, str] = {}
        used = largest = 0
        for ref in wanted.values():
            try:
                size = self._device_bytes(self._catalog.manifest(ref).spec)
            except AdapterLoadError as error:
                refused[ref] = str(error)
                continue
            if ref.name != self._catalog.default and used + size + max(size, largest) > self._device_cache.budget_bytes:
                refused[ref] = "there would be no room for another set beside the pinned ones"
                continue
            kept.append(ref)
            used, largest = used + size, max(size, largest)
        return Plan(tuple(kept), refused)

    async def prepare(self, ref: AdapterRef) -> None:
        """Bring a revision to the device that is to be pinned there; `AdapterConflictError` if that cannot be."""
        plan = await self._threads.run(self.plan, ref)
        try:
            if ref in plan.refused:
                raise AdapterLoadError(plan.refused[ref])
            await self._device_cache.preload(ref)
        except AdapterLoadError as error:
            raise AdapterConflictError(f"{ref} cannot be kept on the device, nothing was changed: {error}") from error

    async def bring_in(self) -> None:
        """Load what is pinned and not on the device; what fails is logged once, and tried again by `heal`."""
        for ref in self._plan.kept:
            known = self._device_cache.failure(ref)
            try:
                await self._device_cache.preload(ref)
            except AdapterLoadError as error:
                if known is None:
                    log.error("pinned adapter set cannot be loaded", extra=_facts(ref) | {"reason": str(error)})

    def heal(self) -> None:
        """Begin to load what is missing, unless that is under way; failures are remembered, so this is cheap."""
        if self._healing is not None and not self._healing.done():
            return
        if any(not self._device_cache.is_resident(ref) for ref in self._plan.kept):
            self._healing = asyncio.create_task(self.bring_in(), name="bring in pinned sets")

    def missing(self) -> dict[AdapterRef, str]:
        """Pinned revisions that are not on the device, and why."""
        absent = {ref: self._reason(ref) for ref in self._plan.kept if not self._device_cache.is_resident(ref)}
        return self._plan.refused | absent

    def _reason(self, ref: AdapterRef) -> str:
        error = self._device_cache.failure(ref)
        return "loading" if error is None else str(error)


def _facts(ref: AdapterRef) -> dict[str, object]:
    return {"adapter": ref.name, "revision": ref.revision}
