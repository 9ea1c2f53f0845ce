"""The interface below the adapter store: immutable files (blobs) and small documents, shared by several processes.

Narrow on purpose: everything here can be had from an object store with conditional writes as well as from a folder.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

BLOB_SUFFIX = ".safetensors"  # of every key


class Staged(Protocol):
    """A file on its way in, on this machine: hashed while it is written, gone when it is closed unless it was kept."""

    @property
    def path(self) -> Path:
        """Where its bytes are meanwhile."""
        ...

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of what was written so far, lower-case hex."""
        ...

    def write(self, chunk: bytes) -> None:
        """Append; `BodyTooLargeError` past the limit, `StoreFullError` when there is no room."""

    def finish(self) -> None:
        """Make what was written safe from a crash."""

    def close(self) -> None:
        """Leave no trace, unless it was swapped in."""


class BlobStore(Protocol):
    """Blobs and documents by name. A name is one harmless path component; a blob belongs to the document of its name.

    Every method may block, is safe from many threads and processes, and raises `OSError` where nothing better is said.
    Those that change something raise `StoreUnavailableError` if others do not let them begin in time.
    """

    def stage(self, limit: int) -> Staged:
        """Room for one incoming file of at most `limit` bytes."""
        ...

    def documents(self) -> Mapping[str, bytes]:
        """Every document by name, but for those that cannot be read."""
        ...

    def read(self, name: str) -> bytes:
        """One document; empty if there is none, `AdapterLoadError` if it cannot be read."""
        ...

    def swap(self, name: str, before: bytes, after: bytes, blob: tuple[str, Staged] | None = None) -> bool:
        """Replace a document if it still is `before`, and bring in a blob (key, finished file) that it names.

        Both or neither, whenever the process dies; False if somebody else was faster. What is done is safe from a
        crash. `StoreFullError` if there is no room, and nothing has changed; `AdapterConflictError` if something that
        is no set has the name.
        """
        ...

    def locate(self, name: str, key: str) -> Path:
        """A file on this machine with a blob's bytes; whether it is there shows when it is opened.

        `AdapterLoadError` if something else is in its place.
        """
        ...

    def delete(self, name: str, key: str) -> None:
        """Remove a blob that the document does not name any more; nothing happens if it is not there."""

    def generation(self) -> bytes:
        """Cheap to ask for, and different after every swap by any process."""
        ...

    def check(self, timeout_s: float) -> None:
        """Raise what a change would, if it were made now and waited so long for the others."""

    def sweep(self, keys_of: Callable[[str, bytes], set[str] | None]) -> None:
        """Remove what crashes left: files whose writer is gone, blobs that their document does not name.

        keys_of: keys that a document (name, text) names, None if that cannot be told: then its blobs stay
        """
