"""The blob store in a folder of a POSIX file system, shared by several processes of one machine.

    DIR/lock                   flock: one change at a time, across processes too
    DIR/generation             a random word, another one after every change
    DIR/reserve                room for the documents of a delete when the disk is full
    DIR/incoming/*.part        files on their way in; a lock on each says its writer lives
    DIR/sets/NAME/state.json   the document of a name (of a name space: NAMESPACE+NAME); replaced atomically
    DIR/sets/NAME/KEY          its blobs

DIR may be a link, as an operator's choice; in it no link is followed. What does not belong there (a link, a pipe, a
file in place of a folder) is logged once and left alone, and costs nobody but the set of its name.

A blob is moved into place before the document names it, and the document forgets it before it is removed. So at any
instant documents name only whole blobs, and a blob that none names is left over from a crash.
"""

import errno
import logging
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from app.core.errors import AdapterConflictError, AdapterLoadError, StartupError
from app.store.blob_store import (
    BLOB_SUFFIX,
    DOCUMENT,
    MAX_DOCUMENT_BYTES,
    KeysOf,
    Staged,
    Traits,
    check_document,
    shown,
)
from app.store.open_no_link import NO_FOLDER, FolderLock, Once, entries, folder, open_file, reason_of
from app.store.staged_file import NO_ROOM, StagedFile, room, unlink, unlink_if_abandoned
from mtlora.weights.plain_files import open_plain

log = logging.getLogger(__name__)

SETS, INCOMING, GENERATION, RESERVE, LOCK = "sets", "incoming", "generation", "reserve", "lock"
GENERATION_BYTES = 64
RESERVE_BYTES = 64 * 1024
COARSEST_CLOCK_NS = 2_000_000_000  # two changes within one tick of a file system's clock look like one
_NO_SET = {errno.ENOENT, *NO_FOLDER}  # where a set's folder would be


class PosixBlobStore:
    """`BlobStore` under one directory."""

    traits = Traits()

    def __init__(self, root: Path, *, timeout_s: float = 10.0) -> None:
        self.root = root
        self._timeout_s = timeout_s
        self._flock = FolderLock(LOCK)
        self._seen: dict[str, tuple[tuple[int, int, int], bytes]] = {}
        self._odd = Once(log, "left alone in the store")
        self._told: bytes | None = None  # the generation that `news` went up to; None: never asked

    @classmethod
    def open(cls, root: Path, *, timeout_s: float = 10.0) -> "PosixBlobStore":
        """The folder, made if missing; `StartupError` if it cannot be used.

        timeout_s: how long a change waits for the lock
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            with folder(root) as place:
                for name in (SETS, INCOMING):
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=place)
                    with folder(name, place):
                        pass
                os.close(open_file(LOCK, place, os.O_WRONLY | os.O_CREAT))
        except OSError as error:
            raise StartupError(
                f"cannot use {root} as the adapter store: {error}; in it {SETS!r} and {INCOMING!r} are folders and "
                f"{LOCK!r} is a file, none of them a link"
            ) from error
        return cls(root, timeout_s=timeout_s)

    def stage(self, limit: int) -> StagedFile:
        """Room for one incoming file of at most `limit` bytes; close it when done."""
        with room(), self._lock() as root, folder(INCOMING, root) as incoming:
            return StagedFile.make(self.root / INCOMING, incoming, limit)

    def documents(self) -> Mapping[str, bytes]:
        """Every document by name. What cannot be read is logged once and left out."""
        found = {}
        with self._folder(SETS) as sets:
            for name in self._homes(sets):
                with self._left_alone(name):
                    text = self._remembered(sets, name)
                    found[name] = self._read_now(sets, name) if text is None else text
        return {name: text for name, text in found.items() if text}

    def read(self, name: str) -> bytes:
        """One document, empty if there is none. Read again only when the file changed."""
        with self._folder(SETS) as sets:
            text = self._remembered(sets, name)
            return self._read_now(sets, name) if text is None else text

    def swap(
        self, name: str, before: bytes, after: bytes, blob: tuple[str, Staged] | None = None, mark: str = ""
    ) -> bool:
        """Replace a document if it still is `before`, and bring in a blob that it names. No mark is needed."""
        del mark
        check_document(name, after)
        with room(), self._lock() as root, folder(SETS, root) as sets:
            if self._read_now(sets, name) != before:
                return False
            with _home(sets, name) as home:
                if blob is None:
                    self._with_reserve(root, lambda: self._replace(home, after))
                else:
                    self._bring_in(home, after, *blob)
            self._change_generation(root)
            self._keep_reserve(root)
            return True

    def locate(self, name: str, key: str) -> Path:
        """Where a blob is; both parts come from a document, never from a client."""
        home = self.root / SETS / name
        for path, belongs in ((home, stat.S_ISDIR), (home / key, stat.S_ISREG)):
            try:
                mode = os.lstat(path).st_mode
            except OSError:  # which one shows when it is opened
                break
            if not belongs(mode):
                kind = "folder" if path is home else "file"
                raise AdapterLoadError(
                    f"adapter set {shown(name)!r} cannot be read: {path.name} in the store is no plain {kind}"
                )
        return home / key

    def beginning(self, name: str, key: str, count: int) -> tuple[bytes, int]:
        """The first bytes of a blob, as many as there are, and its size."""
        with open_plain(self.locate(name, key)) as file:
            return file.read(count), os.fstat(file.fileno()).st_size

    def delete(self, name: str, key: str) -> None:
        """Remove a blob that the document does not name any more."""
        with self._lock() as root, folder(SETS, root) as sets:
            try:
                with folder(name, sets) as home:
                    os.unlink(key, dir_fd=home)
            except OSError as error:
                if error.errno not in _NO_SET:
                    raise

    def news(self) -> Mapping[str, bytes]:
        """Nothing while the generation stays, else every document."""
        generation = self.generation()
        if generation == self._told:
            return {}
        found = self.documents()
        self._told = generation
        return found

    def generation(self) -> bytes:
        """A random word, another one after every change."""
        with self._folder() as root:
            try:
                with os.fdopen(open_file(GENERATION, root), "rb") as handle:
                    return handle.read(GENERATION_BYTES)
            except FileNotFoundError:
                return b""

    def check(self, timeout_s: float) -> None:
        """Raise what a change would, if it were made now and waited so long for the lock."""
        with self._lock(timeout_s) as root:
            for name in (SETS, INCOMING):
                with folder(name, root):
                    pass

    def sweep(self, keys_of: KeysOf) -> None:
        """Remove what crashes left. What does not belong there is logged once and left alone."""
        with self._lock() as root:
            self._change_generation(root)
            self._keep_reserve(root)
            with folder(INCOMING, root) as incoming:
                for part in entries(incoming):
                    with self._left_alone(part.name):
                        unlink_if_abandoned(part.name, incoming)
            with folder(SETS, root) as sets:
                for name in self._homes(sets):
                    with self._left_alone(name):
                        known = keys_of(name, self._read_now(sets, name))
                        if known is not None:
                            _unlink_strays(name, sets, known)

    def _homes(self, sets: int) -> list[str]:
        """Names of the folders of sets, sorted. A link to a folder is none."""
        found = []
        for entry in entries(sets):
            if entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
            else:
                self._odd.warn(entry.name, "no folder, so no adapter set")
        return sorted(found)

    @contextmanager
    def _left_alone(self, name: str) -> Iterator[None]:
        """One odd entry must not cost the others anything."""
        try:
            yield
        except OSError as error:
            self._odd.warn(name, reason_of(error))
        except AdapterLoadError as error:
            self._odd.warn(name, error.detail)

    def _remembered(self, sets: int, name: str) -> bytes | None:
        """The document as it was read before; None if it has changed since, or was never read."""
        if (seen := self._seen.get(name)) is not None:
            with suppress(OSError):
                if seen[0] == _signature(os.stat(f"{name}/{DOCUMENT}", dir_fd=sets, follow_symlinks=False)):
                    return seen[1]
        return None

    def _read_now(self, sets: int, name: str) -> bytes:
        """The document, never from memory. `AdapterLoadError` if something else is in its place."""
        try:
            return self._read(sets, name)
        except OSError as error:
            raise AdapterLoadError(
                f"the state of adapter set {shown(name)!r} cannot be read: {reason_of(error)}"
            ) from error

    def _read(self, sets: int, name: str) -> bytes:
        with ExitStack() as stack:
            try:
                home = stack.enter_context(folder(name, sets))
            except OSError as error:
                if error.errno in _NO_SET:
                    return b""
                raise
            try:
                handle = stack.enter_context(os.fdopen(open_file(DOCUMENT, home), "rb"))
            except FileNotFoundError:
                return b""
            status = os.fstat(handle.fileno())
            if status.st_size > MAX_DOCUMENT_BYTES:
                raise OSError(errno.EINVAL, f"{status.st_size} bytes, it may have {MAX_DOCUMENT_BYTES}", DOCUMENT)
            text = handle.read(MAX_DOCUMENT_BYTES)
        if time.time_ns() - status.st_mtime_ns > COARSEST_CLOCK_NS:
            self._seen[name] = _signature(status), text
        return text

    def _bring_in(self, home: int, after: bytes, key: str, staged: Staged) -> None:
        os.rename(staged.path, key, dst_dir_fd=home)
        try:
            os.fsync(home)
            self._replace(home, after)
        except OSError:
            unlink(key, home)
            raise

    def _replace(self, home: int, text: bytes) -> None:
        draft = f"{DOCUMENT}.{uuid.uuid4().hex}"
        try:
            with os.fdopen(open_file(draft, home, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            os.rename(draft, DOCUMENT, src_dir_fd=home, dst_dir_fd=home)
            os.fsync(home)
        finally:
            unlink(draft, home)

    def _with_reserve(self, root: int, work: Callable[[], None]) -> None:
        """On a full disk, once more with the reserve set free: sets must be deletable when room is needed most."""
        try:
            work()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            with suppress(OSError):
                unlink(RESERVE, root)
            work()

    def _keep_reserve(self, root: int) -> None:
        with suppress(OSError), os.fdopen(open_file(RESERVE, root, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(bytes(RESERVE_BYTES))

    def _change_generation(self, root: int) -> None:
        """Overwritten in place, which needs no room. A failure delays what other processes see, no more."""
        try:
            with os.fdopen(open_file(GENERATION, root, os.O_WRONLY | os.O_CREAT), "wb") as handle:
                handle.write(uuid.uuid4().hex.encode())
        except OSError as error:
            log.error("other processes see this change late", extra={"reason": reason_of(error)})

    @contextmanager
    def _folder(self, *names: str) -> Iterator[int]:
        with ExitStack() as stack:
            place = stack.enter_context(folder(self.root))
            for name in names:
                place = stack.enter_context(folder(name, place))
            yield place

    @contextmanager
    def _lock(self, timeout_s: float | None = None) -> Iterator[int]:
        """The folder, for one change at a time."""
        with folder(self.root) as root, self._flock.held(root, self._timeout_s if timeout_s is None else timeout_s):
            yield root


@contextmanager
def _home(sets: int, name: str) -> Iterator[int]:
    """The folder of a set, made if missing; `AdapterConflictError` if something else has its name."""
    with ExitStack() as stack:
        try:
            home = stack.enter_context(folder(name, sets))
        except FileNotFoundError:
            os.mkdir(name, dir_fd=sets)
            os.fsync(sets)
            home = stack.enter_context(folder(name, sets))
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
            raise AdapterConflictError(
                f"in the store something that is no folder has the place of adapter set {shown(name)!r}; it is left "
                "alone: the operator must remove it, or the set needs another name"
            ) from error
        yield home


def _unlink_strays(name: str, sets: int, known: set[str]) -> None:
    with folder(name, sets) as home:
        for stray in entries(home):
            ours = stray.name.endswith(BLOB_SUFFIX) or stray.name.startswith(f"{DOCUMENT}.")
            if ours and stray.name not in known and stray.is_file(follow_symlinks=False):
                unlink(stray.name, home)


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size
