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
import fcntl
import hashlib
import logging
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.core.errors import AdapterConflictError, AdapterLoadError, BodyTooLargeError, StartupError, StoreFullError
from app.store.blob_store import BLOB_SUFFIX, Staged
from app.store.open_no_link import NO_FOLDER, FolderLock, Once, entries, folder, open_file, reason_of

log = logging.getLogger(__name__)

SETS, INCOMING, GENERATION, RESERVE, LOCK = "sets", "incoming", "generation", "reserve", "lock"
DOCUMENT = "state.json"
MAX_DOCUMENT_BYTES = 16 * 2**20  # about 80,000 revisions
GENERATION_BYTES = 64
RESERVE_BYTES = 64 * 1024
COARSEST_CLOCK_NS = 2_000_000_000  # two changes within one tick of a file system's clock look like one
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_SET = {errno.ENOENT, *NO_FOLDER}  # where a set's folder would be


@contextmanager
def _room() -> Iterator[None]:
    """Say "no room" in the service's words."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFullError(f"no room left for adapter files: {os.strerror(error.errno)}") from error
        raise


class StagedFile:
    """A file in `incoming`: bounded, locked while its writer lives."""

    def __init__(self, path: Path, handle: BinaryIO, limit: int) -> None:
        self.path = path
        self.size = 0
        self._handle = handle
        self._limit = limit
        self._sha = hashlib.sha256()

    @property
    def digest(self) -> str:
        """sha256 of what was written so far, lower-case hex."""
        return self._sha.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append; `BodyTooLargeError` past the limit, `StoreFullError` when the disk is full."""
        self.size += len(chunk)
        if self.size > self._limit:
            raise BodyTooLargeError(f"adapter files may have {self._limit} bytes; this one has more")
        self._sha.update(chunk)
        with _room():
            self._handle.write(chunk)

    def finish(self) -> None:
        """Bring every byte to the disk."""
        with _room():
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Leave no trace in `incoming`, unless the file was moved on."""
        try:
            self._handle.close()
        except OSError:  # a full disk refuses the last buffered bytes; they are not wanted
            pass
        finally:
            self.path.unlink(missing_ok=True)


class PosixBlobStore:
    """`BlobStore` under one directory."""

    def __init__(self, root: Path, *, timeout_s: float = 10.0) -> None:
        self.root = root
        self._timeout_s = timeout_s
        self._flock = FolderLock(LOCK)
        self._seen: dict[str, tuple[tuple[int, int, int], bytes]] = {}
        self._odd = Once(log, "left alone in the store")

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
        name = f"{uuid.uuid4().hex}.part"
        with _room(), self._lock() as root, folder(INCOMING, root) as incoming:
            handle = os.fdopen(open_file(name, incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")
            fcntl.flock(handle, fcntl.LOCK_EX)
        return StagedFile(self.root / INCOMING / name, handle, limit)

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

    def swap(self, name: str, before: bytes, after: bytes, blob: tuple[str, Staged] | None = None) -> bool:
        """Replace a document if it still is `before`, and bring in a blob that it names."""
        if len(after) > MAX_DOCUMENT_BYTES:
            raise StoreFullError(
                f"adapter set {_shown(name)!r} has too many revisions: its state would have {len(after)} bytes and may "
                f"have {MAX_DOCUMENT_BYTES}; delete old ones first"
            )
        with _room(), self._lock() as root, folder(SETS, root) as sets:
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
                    f"adapter set {_shown(name)!r} cannot be read: {path.name} in the store is no plain {kind}"
                )
        return home / key

    def delete(self, name: str, key: str) -> None:
        """Remove a blob that the document does not name any more."""
        with self._lock() as root, folder(SETS, root) as sets:
            try:
                with folder(name, sets) as home:
                    os.unlink(key, dir_fd=home)
            except OSError as error:
                if error.errno not in _NO_SET:
                    raise

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

    def sweep(self, keys_of: Callable[[str, bytes], set[str] | None]) -> None:
        """Remove what crashes left. What does not belong there is logged once and left alone."""
        with self._lock() as root:
            self._change_generation(root)
            self._keep_reserve(root)
            with folder(INCOMING, root) as incoming:
                for part in entries(incoming):
                    with self._left_alone(part.name):
                        _unlink_if_abandoned(part.name, incoming)
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
                f"the state of adapter set {_shown(name)!r} cannot be read: {reason_of(error)}"
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
            _unlink(key, home)
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
            _unlink(draft, home)

    def _with_reserve(self, root: int, work: Callable[[], None]) -> None:
        """On a full disk, once more with the reserve set free: sets must be deletable when room is needed most."""
        try:
            work()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            with suppress(OSError):
                _unlink(RESERVE, root)
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
                f"in the store something that is no folder has the place of adapter set {_shown(name)!r}; it is left "
                "alone: the operator must remove it, or the set needs another name"
            ) from error
        yield home


def _unlink_if_abandoned(name: str, incoming: int) -> None:
    with os.fdopen(open_file(name, incoming), "rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _unlink(name, incoming)


def _unlink_strays(name: str, sets: int, known: set[str]) -> None:
    with folder(name, sets) as home:
        for stray in entries(home):
            ours = stray.name.endswith(BLOB_SUFFIX) or stray.name.startswith(f"{DOCUMENT}.")
            if ours and stray.name not in known and stray.is_file(follow_symlinks=False):
                _unlink(stray.name, home)


def _unlink(name: str, parent: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _shown(name: str) -> str:
    """What clients call the set of this name."""
    return name.rpartition("+")[2]
