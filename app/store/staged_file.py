"""Files on their way into the store: on this machine, hashed while they are written, known to be alive by a lock."""

import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.core.errors import BodyTooLargeError, StoreFullError
from app.store.open_no_link import open_file

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def room() -> Iterator[None]:
    """Say "no room" in the service's words."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StoreFullError(f"no room left for adapter files: {os.strerror(error.errno)}") from error
        raise


class StagedFile:
    """A file in a folder of its like: bounded, locked while its writer lives."""

    def __init__(self, path: Path, handle: BinaryIO, limit: int) -> None:
        self.path = path
        self.size = 0
        self._handle = handle
        self._limit = limit
        self._sha = hashlib.sha256()

    @classmethod
    def make(cls, path: Path, parent: int, limit: int) -> "StagedFile":
        """A new one, of at most `limit` bytes, in the folder of that path and descriptor."""
        name = f"{uuid.uuid4().hex}.part"
        handle = os.fdopen(open_file(name, parent, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")
        fcntl.flock(handle, fcntl.LOCK_EX)
        return cls(path / name, handle, limit)

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
        with room():
            self._handle.write(chunk)

    def finish(self) -> None:
        """Bring every byte to the disk."""
        with room():
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


def unlink_if_abandoned(name: str, incoming: int) -> None:
    """Remove a staged file unless its writer lives."""
    with os.fdopen(open_file(name, incoming), "rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        unlink(name, incoming)


def unlink(name: str, parent: int) -> None:
    """Remove a file; nothing happens if it is not there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
