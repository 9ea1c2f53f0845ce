"""Uploaded adapter sets on disk. What was acknowledged is there after a kill -9; what was not leaves no trace.

    DIR/lock                          flock: one change at a time, across processes too
    DIR/incoming/*.part               uploads on their way in; a lock on each says its writer lives
    DIR/sets/NAME/state.json          revisions, current, pinned; replaced atomically
    DIR/sets/NAME/DIGEST.safetensors  one immutable file per revision
    DIR/sets/NAMESPACE+NAME/…         the same for a set of a name space

A file is moved into place before the state names it, and the state forgets it before it is removed. So at any instant
the state names only whole files, and a file that no state names is left over from a crash: `sweep` removes it.
Names are full ones (see `names`). The interface (states by name, immutable blobs by name and digest) is one that an
object store can offer too.
"""

import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from app.access.keys import Caller
from app.access.quotas import Holdings, check_bytes, check_sets
from app.errors import AdapterLoadError, BodyTooLargeError, StartupError, StoreFullError
from app.residency.names import folder_of, name_of, namespace_of, plain_name
from app.residency.state import Revision, SetState

STATE_FILE = "state.json"
BLOB_SUFFIX = ".safetensors"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def _room() -> Iterator[None]:
    """Say "no room" in the service's words."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFullError(f"no room left for adapter files: {os.strerror(error.errno)}") from error
        raise


def _sync_dir(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Staged:
    """A file on its way into the store: bounded, hashed while it is written, gone unless it is added."""

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
        """Leave no trace in `incoming`, unless `AdapterStore.add` moved the file on."""
        try:
            self._handle.close()
        except OSError:  # a full disk refuses the last buffered bytes; they are not wanted
            pass
        finally:
            self.path.unlink(missing_ok=True)


class AdapterStore:
    """States and files of uploaded sets under one directory, which several processes may share."""

    def __init__(self, root: Path, *, max_bytes: int = 0) -> None:
        self.root = root
        self._max_bytes = max_bytes  # 0: as much as the disk holds
        self._sets = root / "sets"
        self._incoming = root / "incoming"
        self._seen: dict[str, tuple[tuple[int, int, int], SetState]] = {}

    @classmethod
    def open(cls, root: Path, *, max_bytes: int = 0) -> "AdapterStore":
        """The store at `root`, made if missing and swept of what a crash left behind."""
        store = cls(root, max_bytes=max_bytes)
        try:
            store._sets.mkdir(parents=True, exist_ok=True)
            store._incoming.mkdir(exist_ok=True)
            store.sweep()
        except OSError as error:
            raise StartupError(f"cannot use {root} as the adapter store: {error}") from error
        return store

    def names(self) -> list[str]:
        """Every name with a state, sorted; deleted sets keep theirs (without revisions)."""
        with os.scandir(self._sets) as entries:
            found = [(entry.path, name) for entry in entries if (name := name_of(entry.name))]
        return sorted(name for path, name in found if Path(path, STATE_FILE).exists())

    def read(self, name: str) -> SetState:
        """The state of a name, empty if there is none. Re-read only when the file changed, by whichever process."""
        path = self._folder(name) / STATE_FILE
        try:
            stat = path.stat()
        except FileNotFoundError:
            return SetState(name=name)
        signature = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        seen = self._seen.get(name)
        if seen is None or seen[0] != signature:
            seen = self._seen[name] = (signature, self._read_file(name))
        return seen[1]

    def update(self, name: str, change: Callable[[SetState], SetState]) -> SetState:
        """Apply a pure change to the state of a name, alone and atomically; what it raises leaves all as it was."""
        with self._lock(), _room():
            before = self._read_file(name)
            after = change(before)
            if after != before:
                self._write_state(after)
            return after

    def path(self, name: str, digest: str) -> Path:
        """Where the file of a revision is; both parts come from a state, never from a client."""
        return self._folder(name) / f"{digest}{BLOB_SUFFIX}"

    def stage(self, limit: int) -> Staged:
        """Room for one incoming file of at most `limit` bytes; close it when done, added or not."""
        path = self._incoming / f"{uuid.uuid4().hex}.part"
        with _room(), self._lock():
            handle = path.open("xb")
            fcntl.flock(handle, fcntl.LOCK_EX)
        return Staged(path, handle, limit)

    def holdings(self, namespace: str) -> Holdings:
        """What the name space holds now."""
        names = [name for name in self.names() if namespace_of(name) == namespace]
        states = [state for name in names if (state := self.read(name)).revisions]
        return Holdings(frozenset(s.name for s in states), tuple(r.bytes for s in states for r in s.revisions))

    def add(
        self, name: str, staged: Staged, *, activate: bool, caller: Caller | None = None
    ) -> tuple[SetState, Revision, bool]:
        """Make a staged, validated file the next revision of a name; the bytes of a known one give that one again.

        Returns the state, the revision, and whether it is new. `QuotaError`: not within what the caller may hold.
        """
        with self._lock(), _room():
            state = self._read_file(name)
            known = state.with_digest(staged.digest)
            if known is not None:
                if activate and state.current != known.revision:
                    state = state.replacing(current=known.revision)
                    self._write_state(state)
                return state, known, False
            self._check_room(name, staged.size, caller)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            state, revision = state.adding(staged.digest, staged.size, now, activate=activate)
            home = self._home(name)
            staged.path.rename(self.path(name, staged.digest))
            try:
                _sync_dir(home)
                self._write_state(state)
            except OSError:
                self.path(name, staged.digest).unlink(missing_ok=True)
                raise
            return state, revision, True

    def discard(self, name: str, digest: str) -> None:
        """Remove a file that no state names any more."""
        with self._lock():
            if self._read_file(name).with_digest(digest) is None:
                self.path(name, digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a crash left: uploads whose writer is gone, state drafts, files that no state names."""
        with self._lock():
            for part in self._incoming.iterdir():
                _unlink_if_abandoned(part)
            for home in self._sets.iterdir():
                name = name_of(home.name)
                if name is None or not home.is_dir():
                    continue
                known = {f"{r.digest}{BLOB_SUFFIX}" for r in self.read(name).revisions} | {STATE_FILE}
                for stray in home.iterdir():
                    if stray.name not in known:
                        stray.unlink()

    def _read_file(self, name: str) -> SetState:
        """The state as it is on the disk now: what a change starts from."""
        try:
            return SetState.model_validate_json((self._folder(name) / STATE_FILE).read_bytes())
        except FileNotFoundError:
            return SetState(name=name)
        except (OSError, ValidationError) as error:
            raise AdapterLoadError(
                f"the state of adapter set {plain_name(name)!r} cannot be read: {type(error).__name__}"
            ) from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / "lock").open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _folder(self, name: str) -> Path:
        return self._sets / folder_of(name)

    def _home(self, name: str) -> Path:
        home = self._folder(name)
        if not home.is_dir():
            home.mkdir()
            _sync_dir(self._sets)
        return home

    def _write_state(self, state: SetState) -> None:
        home = self._home(state.name)
        draft = home / f"{STATE_FILE}.{uuid.uuid4().hex}"
        try:
            with draft.open("xb") as handle:
                handle.write(state.model_dump_json(indent=1).encode())
                handle.flush()
                os.fsync(handle.fileno())
            draft.rename(home / STATE_FILE)
            _sync_dir(home)
        finally:
            draft.unlink(missing_ok=True)

    def _check_room(self, name: str, more: int, caller: Caller | None) -> None:
        """The caller's quota first: how full the whole store is concerns them only if they may still add to it."""
        if caller is not None:
            held = self.holdings(namespace_of(name))
            check_sets(caller, held, name)
            check_bytes(caller, held, more)
        if not self._max_bytes:
            return
        used = sum(r.bytes for stored in self.names() for r in self.read(stored).revisions)
        if used + more > self._max_bytes:
            raise StoreFullError(f"the store may hold {self._max_bytes} bytes and has no room for {more} more")


def _unlink_if_abandoned(part: Path) -> None:
    with part.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        part.unlink(missing_ok=True)
