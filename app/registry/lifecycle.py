"""Operators' changes of adapter sets, in one place: disk and memory change together, in the safe order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from app.access.keys import Caller
from app.core.errors import AdapterConflictError, ServiceError, StoreUnavailableError
from app.core.names import AdapterRef
from app.core.tiers import Tier
from app.http.multipart import Event
from app.http.parameters import Found
from app.registry.lookup import Described, Lookup
from app.registry.pins import Pins
from app.registry.upload import Uploaded, Uploader
from app.store.adapter_store import AdapterStore

log = logging.getLogger(__name__)

RETRY_S = 10.0


class AdapterLifecycle:
    """Upload, activate, pin, load, unload, delete, each for the caller's name space.

    Lives on the event loop; file work runs in the executor.
    """

    def __init__(
        self, store: AdapterStore, lookup: Lookup, pins: Pins, uploader: Uploader, on_deleted: Callable[[str], None]
    ) -> None:
        self.catalog = lookup.catalog
        self.device_cache = lookup.device_cache
        self.host = lookup.host
        self._lookup = lookup
        self._threads = lookup.threads
        self._pins = pins
        self._store = store
        self._uploader = uploader
        self._on_deleted = on_deleted
        self._cleaning: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def upload(
        self, events: AsyncIterator[Event], caller: Caller, announced: int, found: Sequence[Found] = ()
    ) -> Uploaded:
        """A new revision from a multipart body, whose file has about `announced` bytes (0: unknown).

        found: options that stand before the body
        """
        uploaded = await self._uploader.receive(events, caller, announced, found)
        self._keep(uploaded)
        if uploaded.waits:
            await self._switch_or_undo(uploaded)
        return uploaded

    async def list(self, caller: Caller) -> list[Described]:
        """Every set with what its revisions say about themselves."""
        return await self._lookup.describe(partial(self.catalog.entries, caller.namespace))

    async def get(self, name: str, caller: Caller) -> Described:
        """One set with what its revisions say about themselves."""
        entry = await self._lookup.entry(self.catalog.locate(name, caller.namespace))
        return (await self._lookup.describe(lambda: [entry]))[0]

    async def file(self, ref: AdapterRef) -> Path:
        """The file of a revision, which is there; `AdapterLoadError` if it is not."""
        return await self._threads.reads.run(self.catalog.file, ref)

    def tier(self, ref: AdapterRef) -> Tier:
        """The nearest tier that a revision is in now."""
        if self.device_cache.is_resident(ref):
            return Tier.DEVICE
        return Tier.HOST if ref in self.host else Tier.DISK

    async def activate(self, name: str, revision: int, caller: Caller) -> int:
        """Switch the current revision, and say which it was.

        A pinned set's new revision is on the device before the switch, so nobody waits; if it cannot be loaded, the
        old one stays.
        """
        name = self.catalog.locate_own(name, caller.namespace)
        entry = await self._lookup.entry(name)
        await self._switch(await self._lookup.ref(name, revision))
        return entry.ref().revision

    async def pin(self, name: str, caller: Caller, *, pinned: bool) -> None:
        """Keep a set in memory from now on, or let it go again. A set that cannot be loaded is not pinned."""
        name = self.catalog.locate_own(name, caller.namespace)
        entry = await self._lookup.entry(name)
        if pinned:
            await self._pins.prepare(entry.ref())
        await self._threads.changes.run(partial(self.catalog.pin, name, pinned=pinned))
        await self._pins.refresh()

    async def load(self, name: str, caller: Caller) -> None:
        """Bring a set's current revision into memory, as a first prediction does."""
        entry = await self._lookup.entry(self.catalog.locate(name, caller.namespace))
        await self.device_cache.preload(entry.ref())

    async def unload(self, name: str, caller: Caller) -> None:
        """Take a set's revisions out of memory; a request that still uses one finishes first."""
        entry = await self._lookup.entry(self.catalog.locate_own(name, caller.namespace))
        if entry.pinned:
            raise AdapterConflictError(f"{name!r} is pinned and stays in memory; unpin it first")
        for revision in entry.state.revisions:
            self.drop(entry.ref(revision.revision), "unload")

    async def delete(self, name: str, revision: int | None, caller: Caller) -> tuple[AdapterRef, ...]:
        """Forget a set or a revision at once, and say what went; bytes go when the last request is done with them."""
        name = self.catalog.locate_own(name, caller.namespace)
        gone = await self._threads.changes.run(self.catalog.delete, name, revision)
        await self._pins.refresh()
        if revision is None:
            self.forget(name)
        self._begin_to_clean(gone)
        return tuple(gone)

    async def close(self) -> None:
        """Wait for deletions under way."""
        self._closing.set()
        await asyncio.gather(*self._cleaning, return_exceptions=True)

    def forget(self, name: str) -> None:
        """A set was deleted, by whichever process: nothing is counted under its name any more."""
        self._on_deleted(name)

    def drop(self, ref: AdapterRef, reason: str) -> None:
        """Remove a revision from memory, as soon as nobody uses it."""
        self.device_cache.drop(ref, reason)
        self.host.drop(ref, reason)

    def vanish(self, ref: AdapterRef) -> None:
        """Another process deleted this revision: it leaves memory at once, or when the last request is done with it."""
        self._in_background(self._leave_memory(ref), f"drop {ref}")

    def _keep(self, uploaded: Uploaded) -> None:
        """What was checked is at hand for the first request; where nobody is about to ask for it, if there is room."""
        ref = uploaded.ref
        self.catalog.remember(ref, uploaded.adapter.manifest)
        self.host.put(ref, uploaded.adapter, displace=uploaded.current)
        if self._store.read(ref.name).find(ref.revision) is None:  # deleted before it was put there
            self.host.drop(ref, "delete")

    async def _switch(self, ref: AdapterRef) -> None:
        if self.catalog.is_pinned(ref.name):
            await self._pins.prepare(ref)
        await self._threads.changes.run(self.catalog.activate, ref.name, ref.revision)
        await self._pins.refresh()

    async def _switch_or_undo(self, uploaded: Uploaded) -> None:
        """Make an uploaded revision of a pinned set the current one; if that fails, it is as if it had not come."""
        try:
            await self._switch(uploaded.ref)
        except ServiceError:
            if uploaded.created:
                gone = await self._threads.changes.run(self.catalog.delete, uploaded.ref.name, uploaded.ref.revision)
                self._begin_to_clean(gone)
            raise

    def _begin_to_clean(self, gone: Iterable[AdapterRef]) -> None:
        for ref in gone:
            self._in_background(self._clean(ref), f"clean {ref}")

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def _leave_memory(self, ref: AdapterRef) -> None:
        self.drop(ref, "delete")
        await self.device_cache.idle(ref)
        self.drop(ref, "delete")  # a load that was under way has put it back
        if not self._store.read(ref.name).revisions:
            self.forget(ref.name)  # requests that ended meanwhile have counted under the name again

    async def _clean(self, ref: AdapterRef) -> None:
        await self._leave_memory(ref)
        with suppress(TimeoutError):  # a request of another process may have resolved it just before
            await asyncio.wait_for(self._closing.wait(), self._store.traits.notice_s)
            if self._store.traits.sweep_every_s is not None:
                return  # other servers may still ask for it; the sweep takes it
        await self._discard(ref)

    async def _discard(self, ref: AdapterRef) -> None:
        """Remove a file, tried until it can be or the server ends; then the next start removes it."""
        while True:
            try:
                return await self._threads.changes.run(self._store.discard, ref)
            except StoreUnavailableError as error:
                facts = {"adapter": ref.name, "revision": ref.revision, "reason": error.detail}
                log.warning("the file of a deleted revision cannot be removed yet", extra=facts)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), RETRY_S)
                if self._closing.is_set():
                    return None
