"""Files of a bucket on this machine: by digest, checked, within a budget. Several processes may share one folder.

    DIR/incoming/*.part            files on their way, in either direction; a lock on each says its writer lives
    DIR/files/DIGEST.safetensors   whole ones; the least recently used go first

Everything here can be had again: the folder may be removed while no server uses it.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from app.core.errors import AdapterLoadError, StartupError
from app.store.blob_store import BLOB_SUFFIX
from app.store.open_no_link import entries, folder, reason_of
from app.store.staged_file import StagedFile, room, unlink_if_abandoned

log = logging.getLogger(__name__)

FILES, INCOMING = "files", "incoming"
SETTLED_S = 60.0  # a file used so lately may be about to be opened


class FileCache:
    """Whole files by digest under one folder. Blocking, thread-safe."""

    def __init__(self, root: Path, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._clock = clock
        self._checked: set[str] = set()  # digests whose files were read whole by this process
        self._evicting = threading.Lock()

    @classmethod
    def open(cls, root: Path, max_bytes: int) -> "FileCache":
        """The folder, made if missing and rid of what crashes left; `StartupError` if it cannot be used."""
        try:
            for name in (FILES, INCOMING):
                (root / name).mkdir(parents=True, exist_ok=True)
            with folder(root / INCOMING) as incoming:
                for part in entries(incoming):
                    with suppress(OSError):
                        unlink_if_abandoned(part.name, incoming)
        except OSError as error:
            raise StartupError(f"cannot use {root} for copies of the adapter store's files: {error}") from error
        return cls(root, max_bytes)

    def stage(self, limit: int) -> StagedFile:
        """Room for one file of at most `limit` bytes; close it when done."""
        path = self._root / INCOMING
        with room(), folder(path) as incoming:
            return StagedFile.make(path, incoming, limit)

    def find(self, digest: str) -> Path | None:
        """The file of this digest, if it is here and whole. Read once by each process, to be sure."""
        path = self._path(digest)
        try:
            if digest not in self._checked:
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                        raise OSError(None, "its bytes are not those that its name says", path.name)
                self._checked.add(digest)
            os.utime(path)
        except FileNotFoundError:
            self._checked.discard(digest)
            return None
        except OSError as error:
            log.warning("a copy of a file is fetched again", extra={"entry": path.name, "reason": reason_of(error)})
            with suppress(OSError):
                path.unlink()
            return None
        return path

    def bring(self, digest: str, pieces: Iterable[bytes], limit: int) -> Path:
        """The file of this digest, from its bytes; `AdapterLoadError` if they are others. Nothing of those stays."""
        staged = self.stage(limit)
        try:
            for piece in pieces:
                staged.write(piece)
            if staged.digest != digest:
                raise AdapterLoadError(f"a file in the bucket has digest {staged.digest}, expected {digest}")
            staged.finish()
            return self.keep(staged)
        finally:
            staged.close()

    def keep(self, staged: StagedFile) -> Path:
        """Take a finished file over as that of its digest, within the budget."""
        path = self._path(staged.digest)
        os.replace(staged.path, path)
        self._checked.add(staged.digest)
        self._evict()
        return path

    def _evict(self) -> None:
        """Down to the budget, but for what was used lately."""
        with self._evicting:
            found = []
            for entry in os.scandir(self._root / FILES):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, entry.path))
            held = sum(size for _, size, _ in found)
            for used, size, path in sorted(found):
                if held <= self._max_bytes or used > self._clock() - SETTLED_S:
                    return
                with suppress(FileNotFoundError):
                    Path(path).unlink()
                held -= size

    def _path(self, digest: str) -> Path:
        return self._root / FILES / f"{digest}{BLOB_SUFFIX}"
