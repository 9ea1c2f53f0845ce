"""The documents of a bucket: read, and replaced by compare and swap whose answers may be lost.

A write that failed may have been made, or may still be on its way. So after everything but a plain yes the document is
read again: if it bears the mark of this change, the change was made, whoever has changed it since; if it is neither
that nor what it was before, the change was not made and never will be, for its condition no longer holds.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from app.core.errors import AdapterLoadError, StoreUnavailableError
from app.store.blob_store import DOCUMENT, MAX_DOCUMENT_BYTES, shown
from app.store.objects import BucketError, Content, Objects, RefusedError, Version
from app.store.open_no_link import NOT_ANSWERED, Once

SETS = "sets"
MAYBE = "; the change may have been made, or still be"
LONGEST_PAUSE_S = 0.1
NOTHING = Content(b"", Version(), datetime.min.replace(tzinfo=UTC))


class BucketDocuments:
    """Documents by name, below `sets/`. Blocking, thread-safe."""

    def __init__(
        self,
        objects: Objects,
        patience_s: float,
        odd: Once,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._objects = objects
        self._patience_s = patience_s
        self._odd = odd
        self._clock = clock
        self._sleep = sleep
        self._seen: dict[str, Content] = {}  # as they were last read or written here; None of them is trusted

    def read(self, name: str) -> bytes:
        """The document as it is now; empty if there is none."""
        return self._read(name).data

    def listed(self, found: Iterable[tuple[str, Version]]) -> Mapping[str, bytes]:
        """Documents of a listing. Only those are read whose version is not the one seen last."""
        texts = {}
        for name, version in found:
            seen = self._seen.get(name)
            if seen is not None and seen.version == version:
                texts[name] = seen.data
            else:
                texts |= self.readable([name])
        return texts

    def readable(self, names: Iterable[str]) -> dict[str, bytes]:
        """Documents by name, but for those that are none: these are logged once."""
        texts = {}
        for name in names:
            try:
                texts[name] = self.read(name)
            except AdapterLoadError as error:
                self._odd.warn(name, error.detail)
        return {name: text for name, text in texts.items() if text}

    def swap(self, name: str, before: bytes, after: bytes, mark: str) -> bool:
        """Replace a document if it still is `before`; `mark` is in `after` and in no document before it."""
        if not mark or mark.encode() not in after:
            raise ValueError(f"a document in a bucket must bear the mark of its change, got {mark!r}")
        found = self._seen.get(name)
        if found is None or found.data != before:
            found = self._read(name)
        end, doubt = self._clock() + self._patience_s, False
        while found.data == before:
            try:
                version = self._objects.put(_key(name), after, over=found.version if before else None)
            except BucketError as error:
                if isinstance(error, RefusedError) and not doubt:
                    raise
                version, doubt = None, True
            if version is not None:
                self._seen[name] = Content(after, version, found.modified)
                return True
            found = self._settle(name)
            if mark.encode() in found.data:
                return True
            if self._clock() >= end:
                raise StoreUnavailableError(NOT_ANSWERED, self._patience_s, MAYBE)
            self._sleep(random.uniform(0, LONGEST_PAUSE_S))
        return False

    def _settle(self, name: str) -> Content:
        try:
            return self._read(name)
        except BucketError as error:
            raise StoreUnavailableError(f"the adapter store cannot be used: {error.strerror}", more=MAYBE) from error

    def _read(self, name: str) -> Content:
        seen = self._seen.get(name)
        try:
            content = self._objects.get(_key(name), unless=seen.version if seen else None)
        except FileNotFoundError:
            self._seen.pop(name, None)
            return NOTHING
        if content is None and seen is not None:
            return seen
        if content is None or len(content.data) > MAX_DOCUMENT_BYTES:
            size = "nothing" if content is None else f"{len(content.data)} bytes"
            raise AdapterLoadError(
                f"the state of adapter set {shown(name)!r} cannot be read: {size}, it may have {MAX_DOCUMENT_BYTES}"
            )
        self._seen[name] = content
        return content


def _key(name: str) -> str:
    return f"{SETS}/{name}/{DOCUMENT}"
