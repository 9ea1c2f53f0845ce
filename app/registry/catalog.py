"""The catalog of adapter sets by name: bundled ones (read-only) and uploaded ones. Blocking, thread-safe."""

import errno
import hashlib
import logging
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cachetools import LRUCache

from app.core.errors import AdapterConflictError, AdapterLoadError, AdapterNotFoundError, StartupError
from app.core.names import (
    NAME,
    AdapterRef,
    full_name,
    known_shape,
    namespace_of,
    parse_reference,
    plain_name,
)
from app.core.nearest import did_you_mean
from app.store.adapter_store import AdapterStore
from app.store.open_no_link import reason_of
from app.store.set_state import Revision, SetState
from mtlora.vocabulary.errors import AdapterFileError, MTLoRAError
from mtlora.weights.adapter_file import AdapterManifest, has_manifest, read_manifest

log = logging.getLogger(__name__)

MOST_COMPARED = 1000
MANIFEST_BYTES = 16 * 2**20  # of those kept in memory: about 4,000


@dataclass(frozen=True, slots=True)
class BundledSet:
    """One read-only file; its only revision is 1."""

    path: Path
    revision: Revision
    fault: str = ""  # why it cannot be served; empty: it can, as far as its header tells
    manifest: AdapterManifest | None = None  # None if its header cannot be read


@dataclass(frozen=True, slots=True)
class Entry:
    """One name: its revisions, where they come from, what role it has."""

    state: SetState
    bundled: bool
    default: bool

    @property
    def pinned(self) -> bool:
        """Whether it must stay in memory; the default set always must."""
        return self.default or self.state.pinned

    def ref(self, revision: int | None = None) -> AdapterRef:
        """A reference to a revision (None: the current one); `AdapterNotFoundError` lists what there is."""
        found = self.state.find(revision)
        if found is None:
            there = ", ".join(str(r.revision) for r in self.state.revisions)
            name = plain_name(self.state.name)
            raise AdapterNotFoundError(f"adapter set {name!r} has no revision {revision}; it has {there}")
        return AdapterRef(self.state.name, found.revision, found.digest)


def find_bundled(folder: Path, check: Callable[[AdapterManifest], None]) -> dict[str, BundledSet]:
    """The adapter files of a folder by name (the file's stem). Other files are left alone.

    check: raises an error of `mtlora` for a set that does not belong here; such sets are found, with their fault
    """
    found: dict[str, BundledSet] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            bundled = _bundled(path, check)
        except OSError as error:
            log.error("left out of the bundled adapter sets", extra=_told(path) | {"reason": reason_of(error)})
            continue
        if bundled is not None:
            found[path.stem] = bundled
    return found


def _bundled(path: Path, check: Callable[[AdapterManifest], None]) -> BundledSet | None:
    """What a file of the bundled sets is; None if it is none, `OSError` if nobody can tell."""
    status = path.stat()  # of a link's target: the folder is the operator's
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    with path.open("rb"):  # that it cannot be read is no fault of its content
        fault, manifest = "", None
    try:
        if not has_manifest(path):
            return None
        manifest = read_manifest(path)
        check(manifest)
    except MTLoRAError as error:
        fault = str(error)
        log.error("bundled adapter set cannot be served", extra=_told(path) | {"reason": fault})
    if not NAME.fullmatch(path.stem):
        log.warning("adapter file with a name that no set may have, left out", extra=_told(path))
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    created = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
    revision = Revision(revision=1, digest=digest, bytes=status.st_size, created=created)
    return BundledSet(path, revision, fault, manifest)


def _told(path: Path) -> dict[str, str]:
    return {"file": ascii(path.name)[1:-1]}


class Catalog:
    """Names to revisions to files.

    What other processes changed is known once the store adopted it; what is not known is looked for in the store, so
    that a set which another process has just added is never denied.
    Bundled sets and the default set are shared: every name space sees them, and none but the global one changes them.
    """

    def __init__(self, store: AdapterStore, bundled: Mapping[str, BundledSet], default: str) -> None:
        self._store = store
        self._bundled = dict(bundled)
        self.default = default
        self._manifests: LRUCache[str, AdapterManifest] = LRUCache(MANIFEST_BYTES, lambda kept: kept.memory_bytes)
        self._lock = threading.Lock()  # of the manifests

    def check(self) -> None:
        """`StartupError` unless the default set is there, and whole as far as its header tells."""
        try:
            self.resolve(None, "")
        except AdapterNotFoundError as error:
            names = ", ".join(self.names("")) or "none"
            raise StartupError(
                f"there is no default adapter set {self.default!r}; sets found: {names}; "
                "--default-adapter says which of them requests mean that name none"
            ) from error
        if fault := self.fault(self.default):
            raise StartupError(f"the default adapter set {self.default!r} cannot be served: {fault}")

    def names(self, namespace: str | None = None) -> list[str]:
        """Full names that have a revision, sorted by plain name: of all sets, or of those that a name space sees."""
        stored = (
            name for name in self._store.names() if self._seen_by(name, namespace) and self._store.read(name).revisions
        )
        return sorted({*self._bundled, *stored}, key=lambda name: (plain_name(name), name))

    def entries(self, namespace: str | None = None) -> list[Entry]:
        """Sets by name, as `names` gives them. From memory."""
        found = (self.known_entry(name) for name in self.names(namespace))
        return [entry for entry in found if entry is not None]  # None: deleted while listing

    def locate(self, name: str, namespace: str) -> str:
        """The full name of what a name in a path means to a name space. Looks at no set, so it tells of none."""
        shared = known_shape(name) in self._bundled or name == self.default
        return name if shared else full_name(namespace, name)

    def locate_own(self, name: str, namespace: str) -> str:
        """As `locate`, for a change; `AdapterConflictError` if the set is everybody's."""
        full = self.locate(name, namespace)
        if namespace and not namespace_of(full):
            raise AdapterConflictError(
                f"{name!r} is shared by all name spaces; keys of one name space cannot change it"
            )
        return full

    def is_bundled(self, name: str) -> bool:
        """Whether the set of this full name came with the server."""
        return name in self._bundled

    def is_pinned(self, name: str) -> bool:
        """Whether the set of this full name must stay on the device, if there is one."""
        return name == self.default or self._store.read(name).pinned

    def fault(self, name: str) -> str:
        """Why a bundled set cannot be served; empty for all others."""
        return self._bundled[name].fault if name in self._bundled else ""

    def entry(self, name: str) -> Entry:
        """One set; `AdapterNotFoundError` if there is none of that full name."""
        return self.known_entry(name) or self.entry_of(self._store.fetch(name))

    def known_entry(self, name: str) -> Entry | None:
        """As `entry`, from memory; None where only the store can tell."""
        known = self._store.read(name)
        return self.entry_of(known) if known.revisions or name in self._bundled else None

    def entry_of(self, state: SetState) -> Entry:
        """One set as a state of the store makes it; `AdapterNotFoundError` if there is none."""
        bundled = self._bundled.get(state.name)
        if bundled is not None:
            state = state.replacing(next_revision=2, current=1, revisions=(bundled.revision,))
        if not state.revisions:
            name = plain_name(state.name)
            raise AdapterNotFoundError(f"no adapter set {name!r}{self._alike(name, namespace_of(state.name))}")
        return Entry(state, bundled is not None, state.name == self.default)

    def resolve(self, reference: str | None, namespace: str) -> AdapterRef:
        """What a request of that name space named: `NAME`, `NAME@REVISION`, or nothing for the default set."""
        return self.ref(*self._meant(reference, namespace))

    def known(self, reference: str | None, namespace: str) -> AdapterRef | None:
        """As `resolve`, from memory; None where only the store can tell."""
        return self.known_ref(*self._meant(reference, namespace))

    def ref(self, name: str, revision: int | None) -> AdapterRef:
        """A revision (None: the current one) of the set of this full name."""
        entry = self.entry(name)
        if revision is not None and entry.state.find(revision) is None and not entry.bundled:
            entry = self.entry_of(self._store.fetch(name))
        return entry.ref(revision)

    def known_ref(self, name: str, revision: int | None) -> AdapterRef | None:
        """As `ref`, from memory; None where only the store can tell."""
        entry = self.known_entry(name)
        if entry is None or (entry.state.find(revision) is None and not entry.bundled):
            return None
        return entry.ref(revision)

    def path(self, ref: AdapterRef) -> Path:
        """The file of a revision."""
        bundled = self._bundled.get(ref.name)
        return bundled.path if bundled is not None else self._store.path(ref)

    def file(self, ref: AdapterRef) -> Path:
        """As `path`, of a file that can be read; `AdapterLoadError` if it cannot."""
        try:
            path = self.path(ref)
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            self._check_named(ref, error)
            raise AdapterLoadError(f"the file of adapter set {ref} cannot be opened: {reason_of(error)}") from error
        return path

    def manifest(self, ref: AdapterRef) -> AdapterManifest:
        """What a revision's file says about itself; read once."""
        known = self.known_manifest(ref)
        if known is None:
            try:
                known = self._store.manifest(ref)
            except AdapterFileError as error:
                raise AdapterLoadError(f"adapter set {ref} cannot be read: {error}") from error
            except OSError as error:
                self._check_named(ref, error)
                raise AdapterLoadError(f"adapter set {ref} cannot be read: {reason_of(error)}") from error
            self.remember(ref, known)
        return known

    def remember(self, ref: AdapterRef, manifest: AdapterManifest) -> None:
        """What a revision's file says about itself was read already."""
        with self._lock, suppress(ValueError):  # larger than all that may be kept
            self._manifests[ref.digest] = manifest

    def known_manifest(self, ref: AdapterRef) -> AdapterManifest | None:
        """As `manifest`, from memory; None if the file must be read."""
        bundled = self._bundled.get(ref.name)
        if bundled is not None:
            return bundled.manifest
        with self._lock:
            return self._manifests.get(ref.digest)

    def activate(self, name: str, revision: int) -> Entry:
        """Make a revision the current one."""

        def change(state: SetState) -> SetState:
            return state.replacing(current=self.entry_of(state).ref(revision).revision)

        if name not in self._bundled:
            return self.entry_of(self._store.update(name, change))
        self.entry(name).ref(revision)
        return self.entry(name)

    def pin(self, name: str, *, pinned: bool) -> Entry:
        """Set or clear the pin; the default set's cannot be cleared."""
        if name == self.default and not pinned:
            raise AdapterConflictError(f"{name!r} is the default adapter set and always stays in memory")

        def change(state: SetState) -> SetState:
            self.entry_of(state)
            return state.replacing(pinned=pinned)

        return self.entry_of(self._store.update(name, change))

    def delete(self, name: str, revision: int | None) -> list[AdapterRef]:
        """Forget a revision or (None) the whole set; returns what was forgotten, whose files still lie there."""
        self.check_replaceable(name)
        gone: list[AdapterRef] = []

        def change(state: SetState) -> SetState:
            entry = self.entry_of(state)
            if entry.default and revision is None:
                raise AdapterConflictError(f"{name!r} is the default adapter set and cannot be deleted")
            gone[:] = [entry.ref(r.revision) for r in state.revisions] if revision is None else [entry.ref(revision)]
            if revision is not None and revision == state.current:
                raise AdapterConflictError(
                    f"revision {revision} of {plain_name(name)!r} is the current one; activate another first"
                )
            return state.without(revision)

        self._store.update(name, change)
        return gone

    def check_replaceable(self, name: str) -> None:
        """`AdapterConflictError` for a bundled set, which only a new installation changes."""
        if name in self._bundled:
            role = "default" if name == self.default else "bundled"
            raise AdapterConflictError(
                f"{name!r} is a {role} adapter set that came with the server and cannot be changed"
            )

    def bytes_on_disk(self) -> tuple[int, int]:
        """Number of revisions and bytes of their files, bundled ones too."""
        sizes = [r.bytes for entry in self.entries() for r in entry.state.revisions]
        return len(sizes), sum(sizes)

    def _check_named(self, ref: AdapterRef, error: OSError) -> None:
        """Where a file lacks, look at the state again, and know it: `AdapterNotFoundError` if it was deleted."""
        if isinstance(error, FileNotFoundError) and ref.name not in self._bundled:
            state = self._store.fetch(ref.name)
            self._store.adopt([state])
            self.entry_of(state).ref(ref.revision)

    def _meant(self, reference: str | None, namespace: str) -> tuple[str, int | None]:
        """Full name and revision (None: the current one)."""
        try:
            name, revision = parse_reference(reference) if reference else (self.default, None)
        except AdapterNotFoundError as error:
            alike = self._alike((reference or "").partition("@")[0], namespace)
            raise AdapterNotFoundError(error.detail + alike) from error
        return self.locate(name, namespace), revision

    def _alike(self, name: str, namespace: str) -> str:
        """The name of a set that the name space sees and that is most like this one, as an end of a sentence.

        Among thousands none is looked for: a request must not take long only because it is wrong.
        """
        if len(self._store.names()) > MOST_COMPARED:
            return ""
        return did_you_mean(name, map(plain_name, self.names(namespace)))

    def _seen_by(self, name: str, namespace: str | None) -> bool:
        return namespace is None or namespace_of(name) == namespace or name == self.default
