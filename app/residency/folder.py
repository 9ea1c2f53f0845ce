"""Blobs and documents in a folder of a POSIX file system, shared by several processes of one machine.

    DIR/lock                   flock: one change at a time, across processes too
    DIR/generation             a random word, another one after every change
    DIR/reserve                room for the documents of a delete when the disk is full
    DIR/incoming/*.part        files on their way in; a lock on each says its writer lives
    DIR/sets/NAME/state.json   the document of a name (of a name space: NAMESPACE+NAME); replaced atomically
    DIR/sets/NAME/KEY          its blobs

A blob is moved into place before the document names it, and the document forgets it before it is removed. So at any
instant documents name only whole blobs, and a blob that none names is left over from a crash.
"""

import errno
import fcntl
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.errors import BodyTooLargeError, StartupError, StoreFullError
from app.residency.blobs import BLOB_SUFFIX, Staged

log = logging.getLogger(__name__)

DOCUMENT = "state.json"
RESERVE_BYTES = 64 * 1024
COARSEST_CLOCK_NS = 2_000_000_000  # two changes within one tick of a file system's clock look like one
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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


class FolderBlobs:
    """`Blobs` under one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sets = root / "sets"
        self._incoming = root / "incoming"
        self._seen: dict[str, tuple[tuple[int, int, int], bytes]] = {}

    @classmethod
    def open(cls, root: Path) -> "FolderBlobs":
        """The folder, made if missing; `StartupError` if it cannot be used."""
        blobs = cls(root)
        try:
            blobs._sets.mkdir(parents=True, exist_ok=True)
            blobs._incoming.mkdir(exist_ok=True)
            with blobs._lock():
                blobs._change_generation()
                blobs._keep_reserve()
        except OSError as error:
            raise StartupError(f"cannot use {root} as the adapter store: {error}") from error
        return blobs

    def stage(self, limit: int) -> StagedFile:
        """Room for one incoming file of at most `limit` bytes; close it when done."""
        path = self._incoming / f"{uuid.uuid4().hex}.part"
        with _room(), self._lock():
            handle = path.open("xb")
            fcntl.flock(handle, fcntl.LOCK_EX)
        return StagedFile(path, handle, limit)

    def documents(self) -> Mapping[str, bytes]:
        """Every document by name."""
        with os.scandir(self._sets) as entries:
            names = sorted(entry.name for entry in entries)
        return {name: text for name in names if (text := self.read(name))}

    def read(self, name: str) -> bytes:
        """One document, empty if there is none. Read again only when the file changed."""
        path = self._sets / name / DOCUMENT
        try:
            stat = path.stat()
            signature = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            seen = self._seen.get(name)
            if seen is None or seen[0] != signature:
                seen = (signature, path.read_bytes())
                if time.time_ns() - stat.st_mtime_ns > COARSEST_CLOCK_NS:
                    self._seen[name] = seen
        except (FileNotFoundError, NotADirectoryError):
            return b""
        return seen[1]

    def swap(self, name: str, before: bytes, after: bytes, blob: tuple[str, Staged] | None = None) -> bool:
        """Replace a document if it still is `before`, and bring in a blob that it names."""
        with self._lock(), _room():
            if self._read_now(name) != before:
                return False
            if blob is None:
                self._with_reserve(lambda: self._replace(name, after))
            else:
                self._bring_in(name, after, *blob)
            self._change_generation()
            self._keep_reserve()
            return True

    def locate(self, name: str, key: str) -> Path:
        """Where a blob is; both parts come from a document, never from a client."""
        return self._sets / name / key

    def delete(self, name: str, key: str) -> None:
        """Remove a blob that the document does not name any more."""
        with self._lock():
            self.locate(name, key).unlink(missing_ok=True)

    def generation(self) -> bytes:
        """A random word, another one after every change."""
        try:
            return (self.root / "generation").read_bytes()
        except FileNotFoundError:
            return b""

    def sweep(self, keys_of: Callable[[str, bytes], set[str] | None]) -> None:
        """Remove what crashes left."""
        with self._lock():
            for part in self._incoming.iterdir():
                _unlink_if_abandoned(part)
            for home in self._sets.iterdir():
                known = keys_of(home.name, self._read_now(home.name)) if home.is_dir() else None
                if known is not None:
                    for stray in (*home.glob(f"*{BLOB_SUFFIX}"), *home.glob(f"{DOCUMENT}.*")):
                        if stray.name not in known:
                            stray.unlink()

    def _bring_in(self, name: str, after: bytes, key: str, staged: Staged) -> None:
        home = self._home(name)
        place = self.locate(name, key)
        staged.path.rename(place)
        try:
            _sync_dir(home)
            self._replace(name, after)
        except OSError:
            place.unlink(missing_ok=True)
            raise

    def _replace(self, name: str, text: bytes) -> None:
        home = self._home(name)
        draft = home / f"{DOCUMENT}.{uuid.uuid4().hex}"
        try:
            with draft.open("xb") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            draft.rename(home / DOCUMENT)
            _sync_dir(home)
        finally:
            draft.unlink(missing_ok=True)

    def _read_now(self, name: str) -> bytes:
        """What a change starts from: never from memory."""
        try:
            return (self._sets / name / DOCUMENT).read_bytes()
        except FileNotFoundError:
            return b""

    def _home(self, name: str) -> Path:
        home = self._sets / name
        if not home.is_dir():
            home.mkdir()
            _sync_dir(self._sets)
        return home

    def _with_reserve(self, work: Callable[[], None]) -> None:
        """On a full disk, once more with the reserve set free: sets must be deletable when room is needed most."""
        try:
            work()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            (self.root / "reserve").unlink(missing_ok=True)
            work()

    def _keep_reserve(self) -> None:
        reserve = self.root / "reserve"
        if not reserve.exists():
            with suppress(OSError):
                reserve.write_bytes(bytes(RESERVE_BYTES))

    def _change_generation(self) -> None:
        """Overwritten in place, which needs no room. A failure delays what other processes see, no more."""
        path = self.root / "generation"
        try:
            with path.open("r+b" if path.exists() else "wb") as handle:
                handle.write(uuid.uuid4().hex.encode())
        except OSError as error:
            log.error("other processes see this change late", extra={"reason": str(error)})

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / "lock").open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _unlink_if_abandoned(part: Path) -> None:
    with part.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        part.unlink(missing_ok=True)


def _sync_dir(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
