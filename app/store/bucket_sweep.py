"""The sweep of a bucket: files that no document names, once they are so old that no writer can still mean to name them.

Ages are in the store's clock. One process sweeps at a time: whoever replaces the object `sweep.json` first. That two
might is no danger, for both read each document again just before they remove anything.
"""

import json
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from app.core.errors import AdapterLoadError
from app.store.blob_store import BLOB_SUFFIX, KeysOf
from app.store.bucket_documents import SETS, BucketDocuments
from app.store.objects import Content, Listed, Objects

log = logging.getLogger(__name__)

SWEEP = "sweep.json"
EVERY = timedelta(hours=1)
OLD = timedelta(hours=6)
"""No upload takes so long: `BucketBlobStore` gives one up before."""


class BucketSweep:
    """Removes what crashes and lost swaps left. Blocking; for one thread at a time."""

    def __init__(
        self,
        objects: Objects,
        documents: BucketDocuments,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._documents = documents
        self._now = now
        self._clock = clock
        self._last: tuple[str, float] | None = None  # the sweep seen last, and since when

    def run(self, keys_of: KeysOf) -> list[str]:
        """Sweep if that is due and nobody else is faster; keys of what was removed."""
        store_now = self._claim()
        return list(self._remove(keys_of, store_now - OLD)) if store_now is not None else []

    def _claim(self) -> datetime | None:
        """The store's time, if it was due and is now ours."""
        last = self._read()
        if last is not None and not self._due(last):
            return None
        mark = uuid.uuid4().hex
        text = json.dumps({"by": mark}).encode()
        if self._objects.put(SWEEP, text, over=last.version if last else None) is None:
            return None
        mine = self._read()
        return mine.modified if mine is not None and mark.encode() in mine.data else None

    def _read(self) -> Content | None:
        try:
            return self._objects.get(SWEEP)
        except FileNotFoundError:
            return None

    def _due(self, last: Content) -> bool:
        """By this machine's clock, or, should that be slow, by how long the same sweep was the last one."""
        if self._last is None or self._last[0] != last.version.e_tag:
            self._last = last.version.e_tag, self._clock()
        return self._now() - last.modified >= EVERY or self._clock() - self._last[1] >= EVERY.total_seconds()

    def _remove(self, keys_of: KeysOf, before: datetime) -> Iterator[str]:
        files: dict[str, list[Listed]] = defaultdict(list)
        for found in self._objects.list(SETS):
            if found.key.endswith(BLOB_SUFFIX) and found.key.count("/") == 2:
                files[found.key.split("/")[1]].append(found)
        for name, held in files.items():
            old = [found for found in held if found.modified < before]
            known = self._named(name, keys_of) if old else None
            if known is None:
                continue
            spare = _spare([found.key for found in held], known)
            for key in sorted({found.key for found in old} & spare):
                self._objects.delete(key)
                log.info("a file that no adapter set names was removed", extra={"entry": key})
                yield key

    def _named(self, name: str, keys_of: KeysOf) -> set[str] | None:
        """What the document names now; None if nobody can tell."""
        try:
            return keys_of(name, self._documents.read(name))
        except AdapterLoadError:
            return None


def stem_of(key: str) -> str:
    """What a document calls a file, without its suffix: its own name has a random part, which no other try repeats."""
    return key.rsplit("/", 1)[-1].removesuffix(BLOB_SUFFIX).partition(".")[0]


def _spare(keys: list[str], known: set[str]) -> set[str]:
    """Files that no document needs: those that it does not name, and of equal ones all but the first by name."""
    named = {key.removesuffix(BLOB_SUFFIX) for key in known}
    first: set[str] = set()
    spare = set()
    for key in sorted(keys):
        stem = stem_of(key)
        if stem not in named or stem in first:
            spare.add(key)
        first.add(stem)
    return spare
