"""The interface below the adapter store: immutable files (blobs) and small documents, shared by several processes.

Narrow on purpose: everything here can be had from an object store with conditional writes as well as from a folder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.core.errors import StoreFullError

BLOB_SUFFIX = ".safetensors"  # of every key
DOCUMENT = "state.json"
MAX_DOCUMENT_BYTES = 16 * 2**20  # about 80,000 revisions


def key_of(revision: int, digest: str) -> str:
    """Numbers are never given twice, so a file that is removed late cannot be one that came meanwhile."""
    return f"{revision}-{digest}{BLOB_SUFFIX}"


def digest_of(key: str) -> str:
    """The sha256 of a blob's bytes, as its key says."""
    return key.removesuffix(BLOB_SUFFIX).partition("-")[2]


def check_document(name: str, text: bytes) -> None:
    """`StoreFullError` if a document is larger than any store reads."""
    if len(text) > MAX_DOCUMENT_BYTES:
        raise StoreFullError(
            f"adapter set {shown(name)!r} has too many revisions: its state would have {len(text)} bytes and may "
            f"have {MAX_DOCUMENT_BYTES}; delete old ones first"
        )


def shown(name: str) -> str:
    """What clients call the set of this name."""
    return name.rpartition("+")[2]


KeysOf = Callable[[str, bytes], set[str] | None]
"""Keys that a document (name, text) names; None if that cannot be told: then its blobs stay."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What those above must know of a kind of blob store.

    marked:        answers of a change may be lost, so each document carries the marks of its last changes
    notice_s:      how long other processes may still ask for a blob whose document has forgotten it
    sweep_every_s: how often to look whether a sweep is due; None: at the start only
    """

    marked: bool = False
    notice_s: float = 2.0
    sweep_every_s: float | None = None


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

    @property
    def traits(self) -> Traits:
        """What those above must know of it."""
        ...

    def stage(self, limit: int) -> Staged:
        """Room for one incoming file of at most `limit` bytes."""
        ...

    def documents(self) -> Mapping[str, bytes]:
        """Every document by name, but for those that cannot be read."""
        ...

    def read(self, name: str) -> bytes:
        """One document; empty if there is none, `AdapterLoadError` if it cannot be read."""
        ...

    def swap(
        self, name: str, before: bytes, after: bytes, blob: tuple[str, Staged] | None = None, mark: str = ""
    ) -> bool:
        """Replace a document if it still is `before`, and bring in a blob (key, finished file) that it names.

        mark: a random word in `after`, which later documents keep for a while, where the store's traits ask for it

        Both or neither, whenever the process dies; False if somebody else was faster. What is done is safe from a
        crash. `StoreFullError` if there is no room, and nothing has changed; `AdapterConflictError` if something that
        is no set has the name. `StoreUnavailableError` may leave open whether it was done.
        """
        ...

    def locate(self, name: str, key: str) -> Path:
        """A file on this machine with a blob's bytes, brought here if needed; a missing one may show when it is opened.

        `AdapterLoadError` if something else is in its place.
        """
        ...

    def beginning(self, name: str, key: str, count: int) -> tuple[bytes, int]:
        """The first bytes of a blob, as many as there are, and its size; the rest is not brought here."""
        ...

    def delete(self, name: str, key: str) -> None:
        """Remove a blob that the document does not name any more; nothing happens if it is not there."""

    def news(self) -> Mapping[str, bytes]:
        """Documents that may have changed since this was last asked; all of them at first. Cheap where none has."""
        ...

    def check(self, timeout_s: float) -> None:
        """Raise what a change would, if it were made now and waited so long for the others."""

    def sweep(self, keys_of: KeysOf) -> None:
        """Remove what crashes left: files whose writer is gone, blobs that their document does not name."""
