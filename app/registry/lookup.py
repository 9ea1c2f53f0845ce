"""The lookup of adapter sets for requests: from memory at once; the store is asked only for what is not known there.

Lives on the event loop. A request for what is known waits for no thread, so no trouble of the store's reaches it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from app.core.errors import AdapterLoadError, StoreUnavailableError
from app.core.names import AdapterRef
from app.registry.catalog import Catalog, Entry
from app.residency.device_cache import DeviceCache
from app.residency.host_cache import HostCache
from app.residency.loader import AdaptedSet
from app.store.store_threads import AdapterThreads
from mtlora.vocabulary.policy import Policy
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file import AdapterManifest

Manifests = Callable[[AdapterRef], AdapterManifest]


@dataclass(frozen=True, slots=True)
class Described:
    """A set, and what its files say about themselves."""

    entry: Entry
    manifests: Mapping[int, AdapterManifest]  # by revision; those that cannot be read are not there
    fault: str  # why the current revision cannot be served, as far as is known; empty: it can

    @property
    def current(self) -> AdapterManifest | None:
        """Of the current revision; None if its file cannot be read."""
        return self.manifests.get(self.entry.ref().revision)


class Lookup:
    """What requests name, and what its files say about themselves."""

    def __init__(
        self, catalog: Catalog, device_cache: DeviceCache[AdaptedSet], host: HostCache, threads: AdapterThreads
    ) -> None:
        self.catalog = catalog
        self.device_cache = device_cache
        self.host = host
        self.threads = threads

    async def resolve(self, reference: str | None, namespace: str) -> AdapterRef:
        """What a request of that name space named: `NAME`, `NAME@REVISION`, or nothing for the default set."""
        known = self.catalog.known(reference, namespace)
        return known if known is not None else await self.threads.reads.run(self.catalog.resolve, reference, namespace)

    async def entry(self, name: str) -> Entry:
        """The set of this full name; `AdapterNotFoundError` if there is none."""
        known = self.catalog.known_entry(name)
        return known if known is not None else await self.threads.reads.run(self.catalog.entry, name)

    async def ref(self, name: str, revision: int | None) -> AdapterRef:
        """A revision (None: the current one) of the set of this full name."""
        known = self.catalog.known_ref(name, revision)
        return known if known is not None else await self.threads.reads.run(self.catalog.ref, name, revision)

    async def manifest(self, ref: AdapterRef) -> AdapterManifest:
        """What a revision's file says about itself; `AdapterLoadError` if it cannot be read."""
        known = self.catalog.known_manifest(ref)
        return known if known is not None else await self.threads.reads.run(self.catalog.manifest, ref)

    async def reach(self, ref: AdapterRef) -> None:
        """Wait until a set that is to be loaded can be read; `AdapterLoadError` if it cannot.

        A store that hangs then keeps a thread of its own waiting, and not those that load sets which are at hand.
        """
        if ref in self.host or self.catalog.is_bundled(ref.name):
            return
        try:
            await self.threads.reads.run(self.catalog.file, ref)
        except StoreUnavailableError as error:
            raise AdapterLoadError(
                f"adapter set {ref} cannot be loaded: {error.detail}", error.retry_after_s
            ) from error

    async def spec(self, ref: AdapterRef) -> AdapterSpec:
        """The shape of a revision, which what is in memory tells as well as its file."""
        manifest = self.catalog.known_manifest(ref)
        if manifest is not None:
            return manifest.spec
        if (adapted := self.device_cache.peek(ref)) is not None:
            return adapted.spec
        if (held := self.host.peek(ref)) is not None:
            return held.manifest.spec
        return (await self.manifest(ref)).spec

    async def policy(self, ref: AdapterRef) -> Policy | None:
        """What decides how much of an image a revision computes; None: everything. Known where `spec` is."""
        manifest = self.catalog.known_manifest(ref)
        if manifest is None and (adapted := self.device_cache.peek(ref)) is not None:
            return adapted.policy
        if manifest is None and (held := self.host.peek(ref)) is not None:
            manifest = held.manifest
        return (manifest or await self.manifest(ref)).policy

    async def describe(self, find: Callable[[], Iterable[Entry]]) -> list[Described]:
        """The sets that `find` finds in memory. Files are read only if there are some whose words are not known."""
        loop = asyncio.get_running_loop()
        with suppress(_UnknownError):
            known = partial(self._all_described, find, self._known_manifest)
            return await loop.run_in_executor(self.threads.memory, known)
        return await self.threads.reads.run(self._all_described, find, self.catalog.manifest)

    def _known_manifest(self, ref: AdapterRef) -> AdapterManifest:
        manifest = self.catalog.known_manifest(ref)
        if manifest is None:
            raise _UnknownError(f"the file of {ref} has not been read, or was forgotten")
        return manifest

    def _all_described(self, find: Callable[[], Iterable[Entry]], manifest: Manifests) -> list[Described]:
        return [self._described(entry, manifest) for entry in find()]

    def _described(self, entry: Entry, manifest: Manifests) -> Described:
        fault, manifests = self.catalog.fault(entry.state.name), {}
        for revision in entry.state.revisions:
            ref = entry.ref(revision.revision)
            try:
                manifests[revision.revision] = manifest(ref)
            except AdapterLoadError as error:
                fault = fault or (str(error) if ref == entry.ref() else "")
        failure = self.device_cache.failure(entry.ref())
        return Described(entry, manifests, fault or (str(failure) if failure else ""))


class _UnknownError(Exception):
    """A file has not been read, or what it said was forgotten."""
