"""The interface below the blob store of a bucket: objects by key, with conditional writes. `OSError` says what failed.

Every method may block and is safe from many threads. A write whose answer is lost may have been made, or still be made
later: only `RefusedError` says that nothing was.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


class BucketError(OSError):
    """The bucket did not answer, or said no more than that it failed: what was asked may have been done or not."""

    def __init__(self, detail: str) -> None:
        super().__init__(errno.EIO, detail)


class RefusedError(BucketError):
    """The bucket refused: no right, no valid credentials, no such bucket. Nothing was done."""


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one content of a key from any other; stores fill in either or both."""

    e_tag: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """A small object, whole."""

    data: bytes
    version: Version
    modified: datetime  # in the store's clock


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing."""

    key: str
    size: int
    version: Version
    modified: datetime  # in the store's clock


class Objects(Protocol):
    """Objects below one prefix of a bucket. A key is a path of harmless components, joined by slashes."""

    def get(self, key: str, unless: Version | None = None) -> Content | None:
        """A small object; None if it still is the version given. `FileNotFoundError` if there is none."""
        ...

    def get_beginning(self, key: str, count: int) -> tuple[bytes, int]:
        """The first bytes of an object, as many as there are, and the size of it all."""
        ...

    def download(self, key: str) -> Iterator[bytes]:
        """A large object, in pieces. `FileNotFoundError` if there is none."""
        ...

    def put(self, key: str, data: bytes, over: Version | None) -> Version | None:
        """Write a small object if it still is that version (None: if there is none); None: it is not, or may not be."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Write a file as an object, whatever was there."""

    def list(self, under: str) -> Iterator[Listed]:
        """Every object whose key begins with these components."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if it is not there."""
