"""What operators do with adapter sets, in one place: disk and memory change together, in the safe order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from app.access.keys import Caller
from app.errors import AdapterConflictError, AdapterLoadError
from app.intake.multipart import Event
from app.residency.catalog import Catalog, Entry
from app.residency.host import HostCache
from app.residency.loader import AdaptedSet
from app.residency.manager import Residency
from app.residency.names import AdapterRef
from app.residency.store import AdapterStore
from app.residency.tiers import Tier
from app.residency.uploads import Uploaded, Uploader
from mtlora.adapter_file import AdapterManifest

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Described:
    """A set, and what its files say about themselves."""

    entry: Entry
    manifests: Mapping[int, AdapterManifest]  # by revision; the current one's is always there

    @property
    def current(self) -> AdapterManifest:
        """Of the current revision."""
        return self.manifests[self.entry.ref().revision]


class AdapterService:
    """Upload, activate, pin, load, unload, delete, each for the caller's name space.

    Lives on the event loop; file work runs in the executor.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: AdapterStore,
        residency: Residency[AdaptedSet],
        host: HostCache,
        uploader: Uploader,
        executor: Executor,
        on_deleted: Callable[[str], None],
    ) -> None:
        self.catalog = catalog
        self.residency = residency
        self.host = host
        self._store = store
        self._uploader = uploader
        self._executor = executor
        self._on_deleted = on_deleted
        self._cleaning: set[asyncio.Task[None]] = set()

    async def upload(self, events: AsyncIterator[Event], caller: Caller, announced: int) -> Uploaded:
        """A new revision from a multipart body, whose file has about `announced` bytes (0: unknown)."""
        uploaded = await self._uploader.receive(events, caller, announced)
        await self._refresh_pins()
        return uploaded

    async def list(self, caller: Caller) -> list[Described]:
        """Every set with what its revisions say about themselves. One whose current file is damaged is left out."""

        def look() -> list[Described]:
            return [found for entry in self.catalog.entries(caller.namespace) if (found := self._listed(entry))]

        return await self._run(look)

    async def get(self, name: str, caller: Caller) -> Described:
        """One set with what its revisions say about themselves."""
        full = self.catalog.locate(name, caller.namespace)
        return await self._run(lambda: self._described(self.catalog.entry(full)))

    def tier(self, ref: AdapterRef) -> Tier:
        """The nearest tier that a revision is in now."""
        if self.residency.is_resident(ref):
            return Tier.DEVICE
        return Tier.HOST if ref in self.host else Tier.DISK

    async def activate(self, name: str, revision: int, caller: Caller) -> int:
        """Switch the current revision, and say which it was.

        A pinned set's new revision is in memory before the switch, so nobody waits.
        """
        name = self.catalog.locate_own(name, caller.namespace)
        entry = await self._run(self.catalog.entry, name)
        if entry.pinned:
            await self.residency.preload(entry.ref(revision))
        await self._run(self.catalog.activate, name, revision)
        await self._refresh_pins()
        return entry.ref().revision

    async def pin(self, name: str, caller: Caller, *, pinned: bool) -> None:
        """Keep a set in memory from now on, or let it go again. A set that cannot be loaded is not pinned."""
        name = self.catalog.locate_own(name, caller.namespace)
        entry = await self._run(self.catalog.entry, name)
        if pinned:
            await self.residency.preload(entry.ref())
            self._check_room_beside_pins(entry.ref())
        await self._run(lambda: self.catalog.pin(name, pinned=pinned))
        await self._refresh_pins()

    async def load(self, name: str, caller: Caller) -> None:
        """Bring a set's current revision into memory, as a first prediction does."""
        await self.residency.preload(self.catalog.entry(self.catalog.locate(name, caller.namespace)).ref())

    async def unload(self, name: str, caller: Caller) -> None:
        """Take a set's revisions out of memory; a request that still uses one finishes first."""
        entry = await self._run(self.catalog.entry, self.catalog.locate_own(name, caller.namespace))
        if entry.pinned:
            raise AdapterConflictError(f"{name!r} is pinned and stays in memory; unpin it first")
        for revision in entry.state.revisions:
            self._drop(entry.ref(revision.revision), "unload")

    async def delete(self, name: str, revision: int | None, caller: Caller) -> tuple[AdapterRef, ...]:
        """Forget a set or a revision at once, and say what went; bytes go when the last request is done with them."""
        name = self.catalog.locate_own(name, caller.namespace)
        gone = await self._run(self.catalog.delete, name, revision)
        await self._refresh_pins()
        if revision is None:
            self._on_deleted(name)
        for ref in gone:
            task = asyncio.create_task(self._clean(ref), name=f"clean {ref}")
            self._cleaning.add(task)
            task.add_done_callback(self._cleaning.discard)
        return tuple(gone)

    async def warm_pins(self) -> None:
        """Bring every pinned set into memory; one that fails is logged and does not keep the server from starting."""
        await self._refresh_pins()
        for ref in await self._run(self.catalog.pinned):
            if ref.name == self.catalog.default:
                continue  # loaded before anything else, and a failure there is fatal
            try:
                await self.residency.preload(ref)
            except Exception:  # an operator's pin must not take the service down
                log.exception(
                    "pinned adapter set cannot be loaded", extra={"adapter": ref.name, "revision": ref.revision}
                )

    async def close(self) -> None:
        """Wait for deletions under way."""
        await asyncio.gather(*self._cleaning, return_exceptions=True)

    def _listed(self, entry: Entry) -> Described | None:
        try:
            return self._described(entry)
        except AdapterLoadError as error:
            log.error("adapter set left out of the list", extra={"adapter": entry.state.name, "reason": str(error)})
            return None

    def _described(self, entry: Entry) -> Described:
        manifests = {entry.ref().revision: self.catalog.manifest(entry.ref())}
        for revision in entry.state.revisions:
            with suppress(AdapterLoadError):  # a damaged revision that nobody uses hides nothing but its own tasks
                manifests[revision.revision] = self.catalog.manifest(entry.ref(revision.revision))
        return Described(entry, manifests)

    def _check_room_beside_pins(self, ref: AdapterRef) -> None:
        """Pins must leave room for one more set, or nothing else could ever be loaded."""
        pinned = {*self.catalog.pinned(), ref}
        sizes = [self.residency.cost(r) for r in pinned]
        if sum(sizes) + max(sizes) > self.residency.budget_bytes:
            # No figures: what others have pinned is no business of a name space.
            raise AdapterConflictError(f"pinning {ref} would leave no room for another set beside the pinned ones")

    async def _refresh_pins(self) -> None:
        self.residency.pin(await self._run(self.catalog.pinned))

    async def _clean(self, ref: AdapterRef) -> None:
        self._drop(ref, "delete")
        await self.residency.idle(ref)
        self._drop(ref, "delete")  # a load that was under way has put it back
        await self._run(self._store.discard, ref)
        if not (await self._run(self._store.read, ref.name)).revisions:
            self._on_deleted(ref.name)  # requests that ended meanwhile have counted under the name again

    def _drop(self, ref: AdapterRef, reason: str) -> None:
        self.residency.drop(ref, reason)
        self.host.drop(ref, reason)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))
