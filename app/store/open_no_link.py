"""Safe opening of what is in a folder: no link is followed, only plain files and folders are taken.

Everything else (a link, a pipe, a device, a folder in place of a file) is odd: an `OSError` that names it, at once.
"""

import errno
import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.errors import StoreUnavailableError

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05
NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})
"""What systems say of something that is no folder, or of a link to one."""
NOT_ANSWERED = "the adapter store has not answered"
UNCHANGEABLE = "; sets cannot be changed meanwhile"
MAX_TOLD = 1000  # odd entries that are remembered, and logged


@contextmanager
def folder(name: str | Path, parent: int | None = None) -> Iterator[int]:
    """The descriptor of a folder. Below a parent no link is followed; a path without one is an operator's choice."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if parent is None else os.O_NOFOLLOW)
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(name: str, parent: int, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a plain file in a folder; never waits for the other end of a pipe."""
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK}:
            raise OSError(errno.ELOOP, "a link, and links are not followed", name) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", name)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def entries(parent: int) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, in no order."""
    with os.scandir(parent) as found:
        yield from found


def reason_of(error: OSError) -> str:
    """What went wrong, in words that tell nobody where on this machine."""
    said = error.strerror or type(error).__name__
    name = error.filename if isinstance(error.filename, str | Path) else ""
    return f"{ascii(Path(name).name)[1:-1]}: {said}" if name else said


class Once:
    """Logs each odd thing once, not at every look at it."""

    def __init__(self, log: logging.Logger, message: str) -> None:
        self._log = log
        self._message = message
        self._told: set[tuple[str, str]] = set()

    def warn(self, name: str, reason: str) -> None:
        """Tell of something, unless it was told or very much was."""
        if (name, reason) not in self._told and len(self._told) < MAX_TOLD:
            self._told.add((name, reason))
            self._log.warning(self._message, extra={"entry": ascii(name[:200])[1:-1], "reason": reason})


class FolderLock:
    """`flock` on a file of a folder: for one thread of one process at a time, and nobody waits longer than they said.

    A process that is frozen while it holds the lock, or a file system that hangs, costs the others their patience only.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._turn = threading.Lock()  # so that one thread of this process polls, and the others stand in line
        self._taken_at = 0.0  # the turn
        self._refused_since: float | None = None  # tries since then found the lock held, and none had it

    @contextmanager
    def held(self, parent: int, timeout_s: float) -> Iterator[None]:
        """Hold the lock; `StoreUnavailableError` if it cannot be had in time."""
        began = self._clock()
        if not self._turn.acquire(timeout=timeout_s):
            raise self._no_turn(began)
        try:
            self._taken_at = self._clock()
            descriptor = self._wait(parent, began + timeout_s)
            try:
                yield
            finally:
                os.close(descriptor)
        finally:
            self._turn.release()

    def _wait(self, parent: int, deadline: float) -> int:
        pause = SHORTEST_PAUSE_S
        try:
            while (descriptor := self._try(parent)) is None:
                now = self._clock()
                if self._refused_since is None:
                    self._refused_since = now
                if now >= deadline:
                    raise _held_elsewhere(now - self._refused_since)
                time.sleep(min(pause, deadline - now))
                pause = min(2 * pause, LONGEST_PAUSE_S)
        except OSError:
            self._refused_since = None
            raise
        self._refused_since = None
        return descriptor

    def _no_turn(self, began: float) -> StoreUnavailableError:
        """Why there was none: whoever has it waits for another process, or for the store, or others were quicker."""
        now, refused_since = self._clock(), self._refused_since
        if refused_since is not None:
            return _held_elsewhere(now - refused_since)
        if self._taken_at <= began:
            return StoreUnavailableError(NOT_ANSWERED, now - self._taken_at, UNCHANGEABLE)
        return StoreUnavailableError("changes before this one have taken the adapter store", now - began, UNCHANGEABLE)

    def _try(self, parent: int) -> int | None:
        """The descriptor that holds the lock; None if another one does, or if the file was replaced meanwhile."""
        descriptor = open_file(self._name, parent, os.O_WRONLY | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(self._name, dir_fd=parent, follow_symlinks=False)):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None


def _held_elsewhere(seconds: float) -> StoreUnavailableError:
    return StoreUnavailableError("another process has held the lock of the adapter store", seconds, UNCHANGEABLE)
