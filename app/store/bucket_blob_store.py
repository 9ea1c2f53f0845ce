"""The blob store in a bucket with conditional writes, shared by servers on any machines.

    PREFIX/index.json                          which names have changed; see `bucket_index`
    PREFIX/sweep.json                          who swept last; see `bucket_sweep`
    PREFIX/probe.json                          written over at each start, to see that conditional writes are ones
    PREFIX/sets/NAME/state.json                the document of a name, as in a folder
    PREFIX/sets/NAME/REV-DIGEST.RANDOM.safetensors   its blobs; a folder's names, without random part, do as well

A blob is put before the document names it. Its random part is of one try alone, so nothing done late to the blob
of one try harms that of another. A lost swap removes nothing: what no document names goes by age (`bucket_sweep`).
"""

import errno
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from app.core.errors import AdapterLoadError, BodyTooLargeError, StartupError, StoreFullError, StoreUnavailableError
from app.store.blob_store import BLOB_SUFFIX, DOCUMENT, KeysOf, Staged, Traits, check_document, digest_of, shown
from app.store.bucket_documents import SETS, BucketDocuments
from app.store.bucket_index import BucketIndex
from app.store.bucket_sweep import OLD, BucketSweep, stem_of
from app.store.file_cache import FileCache
from app.store.objects import Objects, Version
from app.store.open_no_link import Once
from app.store.staged_file import StagedFile

log = logging.getLogger(__name__)

PROBE = "probe.json"
FULL_LOOK_S = 60.0  # the index may be missing what a writer did just before it died
NOTICE_S = 90.0  # longer than any process that reaches the bucket goes without a full look
LONGEST_UPLOAD_S = OLD.total_seconds() / 6  # files may be swept much later only
CHECKED_S = 1.0  # what answered so lately needs no second question


class BucketBlobStore:
    """`BlobStore` below a prefix of a bucket."""

    traits = Traits(marked=True, notice_s=NOTICE_S, sweep_every_s=FULL_LOOK_S)

    def __init__(
        self,
        objects: Objects,
        cache: FileCache,
        *,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._objects = objects
        self._cache = cache
        self._clock = clock
        self._documents = BucketDocuments(objects, timeout_s, Once(log, "left alone in the store"), clock, sleep)
        self._index = BucketIndex(objects, sleep)
        self._sweep = BucketSweep(objects, self._documents, clock=clock)
        self._full_look = -FULL_LOOK_S  # when `news` last took one
        self._answered = -CHECKED_S  # when the bucket last answered `news`

    def probe(self) -> None:
        """`StartupError` unless the bucket keeps the conditions of writes; without them changes would be lost."""
        mark = uuid.uuid4().hex.encode()
        version = _version_of(self._objects, PROBE)
        first = self._objects.put(PROBE, mark, over=version)
        there = first or _version_of(self._objects, PROBE) or Version('"none"')
        stale = Version('"none"' if there.e_tag else "", "1" if there.version else "")
        refused = self._objects.put(PROBE, mark + b"2", over=None), self._objects.put(PROBE, mark + b"3", over=stale)
        if refused != (None, None):
            raise StartupError(
                "this bucket's service does not keep If-None-Match and If-Match on writes, so changes of several "
                "servers would be lost; take one that does (Amazon S3, MinIO, Ceph from Squid on, "
                "R2, GCS, Azure), or a folder"
            )
        if first is None:
            log.info("another server starts at the same time", extra={"entry": PROBE})

    def stage(self, limit: int) -> StagedFile:
        """Room for one incoming file of at most `limit` bytes, on this machine; close it when done."""
        return self._cache.stage(limit)

    def documents(self) -> Mapping[str, bytes]:
        """Every document by name. Only those are read that have changed since they were."""
        found = ((key.split("/")[1], version) for key, version in self._listed(f"/{DOCUMENT}"))
        return {name: text for name, text in self._documents.listed(found).items() if text}

    def read(self, name: str) -> bytes:
        """One document as it is now, empty if there is none."""
        return self._documents.read(name)

    def swap(
        self, name: str, before: bytes, after: bytes, blob: tuple[str, Staged] | None = None, mark: str = ""
    ) -> bool:
        """Replace a document if it still is `before`, and bring in a blob that it names."""
        check_document(name, after)
        began = self._clock()
        if blob is not None:
            key, staged = blob
            unique = f"{key.removesuffix(BLOB_SUFFIX)}.{uuid.uuid4().hex[:16]}{BLOB_SUFFIX}"
            self._objects.upload(f"{SETS}/{name}/{unique}", staged.path)
            if self._clock() - began > LONGEST_UPLOAD_S:
                raise StoreUnavailableError("the file took too long to the bucket; nothing was changed")
        if not self._documents.swap(name, before, after, mark):
            return False
        if blob is not None and isinstance(blob[1], StagedFile):
            self._cache.keep(blob[1])
        self._index.note(name, mark)
        return True

    def locate(self, name: str, key: str) -> Path:
        """A copy on this machine, fetched if need be and checked; `FileNotFoundError` if the bucket has none."""
        digest = digest_of(key)
        found, wrong = self._cache.find(digest), None
        if found is not None:
            return found
        for at, size in self._blobs(name, key):
            try:
                return self._cache.bring(digest, self._objects.download(at), size)
            except FileNotFoundError:
                continue
            except (AdapterLoadError, BodyTooLargeError, StoreFullError) as error:
                wrong = error
        if wrong is not None:
            raise AdapterLoadError(
                f"adapter set {shown(name)!r} cannot be fetched from the bucket: {wrong.detail}"
            ) from wrong
        raise FileNotFoundError(errno.ENOENT, "not in the bucket", key)

    def beginning(self, name: str, key: str, count: int) -> tuple[bytes, int]:
        """The first bytes of a blob, as many as there are, and its size."""
        if (path := self._cache.find(digest_of(key))) is not None:
            with path.open("rb") as file:
                return file.read(count), path.stat().st_size
        for at, _ in self._blobs(name, key):
            try:
                return self._objects.get_beginning(at, count)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(errno.ENOENT, "not in the bucket", key)

    def delete(self, name: str, key: str) -> None:
        """Remove a blob that the document does not name any more, from the tries that brought it in too."""
        for at, _ in self._blobs(name, key):
            self._objects.delete(at)

    def news(self) -> Mapping[str, bytes]:
        """Documents that the index says have changed; once a minute all that have."""
        began = self._clock()
        names, take_in = self._index.changed()
        if began - self._full_look >= FULL_LOOK_S:
            found = self.documents()
            self._full_look = began
        else:
            found = self._documents.readable(names)
        take_in()
        self._answered = began
        return found

    def check(self, timeout_s: float) -> None:
        """Raise if the bucket does not answer. That it takes changes shows when one is made."""
        del timeout_s  # each request has its own
        if self._clock() - self._answered > CHECKED_S:
            self._index.ask()

    def sweep(self, keys_of: KeysOf) -> None:
        """Remove what crashes and lost swaps left, if that is due and no other process does it."""
        self._sweep.run(keys_of)

    def _blobs(self, name: str, key: str) -> Iterator[tuple[str, int]]:
        """Keys and sizes of the objects with this blob's bytes, as their names say."""
        stem = key.removesuffix(BLOB_SUFFIX)
        for found in self._objects.list(f"{SETS}/{name}"):
            if found.key.endswith(BLOB_SUFFIX) and stem_of(found.key) == stem:
                yield found.key, found.size

    def _listed(self, ending: str) -> Iterator[tuple[str, Version]]:
        for found in self._objects.list(SETS):
            if found.key.endswith(ending) and found.key.count("/") == 2:
                yield found.key, found.version


def _version_of(objects: Objects, key: str) -> Version | None:
    try:
        content = objects.get(key)
    except FileNotFoundError:
        return None
    return content.version if content is not None else None
