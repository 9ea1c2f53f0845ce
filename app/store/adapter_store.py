"""The store of uploaded adapter sets: their states and files.

What was acknowledged is there after a kill -9; what was not leaves no trace.

Names are full ones (see `names`). States are known from memory, so asking costs no I/O. `changes` tells what other
processes did, `adopt` takes it over.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from app.access.keys import Caller
from app.access.quotas import Holdings, check_bytes, check_sets
from app.core.errors import AdapterLoadError, StartupError, StoreFullError, StoreUnavailableError
from app.core.names import AdapterRef, folder_of, name_of, namespace_of, plain_name
from app.store.blob_store import BlobStore, Staged, Traits, key_of
from app.store.open_no_link import Once
from app.store.posix_blob_store import PosixBlobStore
from app.store.set_state import Revision, SetState
from mtlora.weights.adapter_file import AdapterManifest
from mtlora.weights.adapter_file.announced import manifest_from

log = logging.getLogger(__name__)


class AdapterStore:
    """States and files of uploaded sets, which several processes may share. Blocking, thread-safe."""

    def __init__(self, blobs: BlobStore, *, max_bytes: int = 0, timeout_s: float = 10.0) -> None:
        self._blobs = blobs
        self._max_bytes = max_bytes  # 0: as much as there is room for
        self._timeout_s = timeout_s
        self._states: dict[str, SetState] = {}
        self._damaged = Once(log, "adapter set with an unreadable state")
        self._books = threading.Lock()  # of what is known here
        self._adding = threading.Lock()  # two uploads must not share the last free bytes of the quota

    @classmethod
    def open(cls, root: Path, *, max_bytes: int = 0, timeout_s: float = 10.0) -> "AdapterStore":
        """The store at `root`, made if missing and swept of what a crash left behind, unless its lock is held.

        timeout_s: how long a change waits for others
        """
        store = cls(PosixBlobStore.open(root, timeout_s=timeout_s), max_bytes=max_bytes, timeout_s=timeout_s)
        try:
            store.sweep()
        except StoreUnavailableError as error:  # reading goes without the lock
            log.error("the adapter store is not tidied up", extra={"reason": error.detail})
        except OSError as error:
            raise StartupError(f"cannot use {root} as the adapter store: {error}") from error
        try:
            store.adopt_all()
        except OSError as error:
            raise StartupError(f"cannot use {root} as the adapter store: {error}") from error
        return store

    @property
    def traits(self) -> Traits:
        """What those above must know of the kind of store."""
        return self._blobs.traits

    def sweep(self) -> None:
        """Remove what crashes left and nothing names, where that is due."""
        self._blobs.sweep(_keys_of)

    def adopt_all(self) -> None:
        """Know every state as it is in the store now."""
        self.adopt(list(self._states_now()))

    def names(self) -> list[str]:
        """Every name with a known state, sorted; deleted sets keep theirs (without revisions)."""
        with self._books:
            return sorted(self._states)

    def read(self, name: str) -> SetState:
        """The known state of a name, empty if there is none."""
        with self._books:
            return self._states.get(name) or SetState(name=name)

    def fetch(self, name: str) -> SetState:
        """The state as it is in the store now, whoever changed it; `AdapterLoadError` if it is damaged."""
        return _parse(name, self._blobs.read(folder_of(name)))

    def changes(self) -> Mapping[str, SetState]:
        """States that are later than the known ones: what other processes changed since this was last asked."""
        states = self._parsed(self._blobs.news())
        return {state.name: state for state in states if state.changes > self.read(state.name).changes}

    def check(self, timeout_s: float) -> None:
        """Raise what a change would, if it were made now and waited so long for the lock."""
        self._blobs.check(timeout_s)

    def adopt(self, states: Iterable[SetState]) -> None:
        """Know these states from now on, unless later ones are known already."""
        with self._books:
            for state in states:
                known = self._states.get(state.name)
                if known is None or state.changes > known.changes:
                    self._states[state.name] = state

    def update(self, name: str, change: Callable[[SetState], SetState]) -> SetState:
        """Apply a pure change to the state of a name, alone and atomically; what it raises leaves all as it was."""
        while True:
            before = self._blobs.read(folder_of(name))
            state = _parse(name, before)
            after = change(state)
            if after == state:
                self.adopt([state])
                return state
            if (swapped := self._swap(before, after)) is not None:
                return swapped

    def path(self, ref: AdapterRef) -> Path:
        """The file of a revision, on this machine."""
        return self._blobs.locate(folder_of(ref.name), key_of(ref.revision, ref.digest))

    def manifest(self, ref: AdapterRef) -> AdapterManifest:
        """What a revision's file says about itself; only its header is read. `OSError`, `AdapterFileError`."""
        key = key_of(ref.revision, ref.digest)
        return manifest_from(partial(self._blobs.beginning, folder_of(ref.name), key), key)

    def stage(self, limit: int) -> Staged:
        """Room for one incoming file of at most `limit` bytes; close it when done, added or not."""
        return self._blobs.stage(limit)

    def holdings(self, namespace: str) -> Holdings:
        """What the name space holds, as far as is known here."""
        return _holdings(namespace, [self.read(name) for name in self.names()])

    def add(
        self, name: str, staged: Staged, *, activate: bool, caller: Caller | None = None
    ) -> tuple[SetState, Revision, bool]:
        """Make a finished, validated file the next revision of a name; the bytes of a known one give that one again.

        Returns the state, the revision, and whether it is new. `QuotaError`: not within what the caller may hold.
        """
        with self._alone():
            while True:
                before = self._blobs.read(folder_of(name))
                state = _parse(name, before)
                known = state.with_digest(staged.digest)
                if known is not None:
                    return self.update(name, partial(_activating, known) if activate else _same), known, False
                self._check_room(name, staged.size, caller)
                now = datetime.now(UTC).isoformat(timespec="seconds")
                after, revision = state.adding(staged.digest, staged.size, now, activate=activate)
                blob = key_of(revision.revision, revision.digest), staged
                if (swapped := self._swap(before, after, blob)) is not None:
                    return swapped, revision, True

    def discard(self, ref: AdapterRef) -> None:
        """Remove the file of a revision that no state names any more."""
        self._blobs.delete(folder_of(ref.name), key_of(ref.revision, ref.digest))

    def _swap(self, before: bytes, after: SetState, blob: tuple[str, Staged] | None = None) -> SetState | None:
        """The state as written, with its change counted; None if the one before is not there any more."""
        mark = uuid.uuid4().hex if self._blobs.traits.marked else ""
        counted = after.changed(mark)
        if not self._blobs.swap(folder_of(after.name), before, counted.document(), blob, mark):
            return None
        self.adopt([counted])
        return counted

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._adding.acquire(timeout=self._timeout_s):
            raise StoreUnavailableError("uploads before this one have taken the adapter store", self._timeout_s)
        try:
            yield
        finally:
            self._adding.release()

    def _check_room(self, name: str, more: int, caller: Caller | None) -> None:
        """The caller's quota first: how full the whole store is concerns them only if they may still add to it."""
        states = list(self._states_now()) if caller is not None or self._max_bytes else []
        if caller is not None:
            held = _holdings(namespace_of(name), states)
            check_sets(caller, held, name)
            check_bytes(caller, held, more)
        used = sum(r.bytes for state in states for r in state.revisions)
        if self._max_bytes and used + more > self._max_bytes:
            raise StoreFullError(f"the store may hold {self._max_bytes} bytes and has no room for {more} more")

    def _states_now(self) -> Iterator[SetState]:
        """Every state as it is in the store; one that is damaged is logged and left out."""
        return self._parsed(self._blobs.documents())

    def _parsed(self, documents: Mapping[str, bytes]) -> Iterator[SetState]:
        for folder, text in documents.items():
            name = name_of(folder)
            if name is None:
                self._damaged.warn(folder, "no name of an adapter set")
                continue
            try:
                yield _parse(name, text)
            except AdapterLoadError as error:
                self._damaged.warn(folder, error.detail)


def _holdings(namespace: str, states: Iterable[SetState]) -> Holdings:
    held = [state for state in states if state.revisions and namespace_of(state.name) == namespace]
    return Holdings(frozenset(s.name for s in held), tuple(r.bytes for s in held for r in s.revisions))


def _same(state: SetState) -> SetState:
    return state


def _activating(revision: Revision, state: SetState) -> SetState:
    """The state with that revision current, as long as it has it."""
    return state.replacing(current=revision.revision) if state.find(revision.revision) else state


def _keys_of(folder: str, text: bytes) -> set[str] | None:
    """Keys of the blobs that a document names; None where it is damaged or none of ours, so that nobody knows."""
    name = name_of(folder)
    try:
        return {key_of(r.revision, r.digest) for r in _parse(name, text).revisions} if name else None
    except AdapterLoadError:
        return None


def _parse(name: str, text: bytes) -> SetState:
    if not text:
        return SetState(name=name)
    try:
        state = SetState.model_validate_json(text)
        if state.name != name:
            raise ValueError(f"it is that of {state.name!r}")
    except ValueError as error:  # pydantic's ValidationError is one
        raise AdapterLoadError(
            f"the state of adapter set {plain_name(name)!r} cannot be read: {type(error).__name__}"
        ) from error
    return state
