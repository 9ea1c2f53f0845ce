"""The adapter store at a place: a folder or a bucket. What a bucket needs is imported only for one."""

from dataclasses import dataclass
from pathlib import Path

from app.core.errors import StartupError, StoreUnavailableError
from app.store.adapter_store import AdapterStore
from app.store.bucket_blob_store import BucketBlobStore
from app.store.file_cache import FileCache
from app.store.objects import BucketError, RefusedError
from app.store.place import BucketPlace

TRIES_IN_PATIENCE = 2  # a request to the bucket, and one that asks what became of it


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is to be used.

    max_bytes:   of all files together; 0: no bound
    timeout_s:   how long a change waits for others
    cache:       folder of copies of a bucket's files, cache_bytes their bound
    """

    max_bytes: int = 0
    timeout_s: float = 10.0
    cache: Path = Path("cache")
    cache_bytes: int = 2**30


def open_store(place: Path | BucketPlace, options: StoreOptions) -> AdapterStore:
    """The store; `StartupError` if it cannot be used, `StoreUnavailableError` if a bucket does not answer just now."""
    if isinstance(place, Path):
        return AdapterStore.open(place, max_bytes=options.max_bytes, timeout_s=options.timeout_s)
    from app.store.obstore_objects import open_objects

    objects = open_objects(place, options.timeout_s / TRIES_IN_PATIENCE)
    cache = FileCache.open(options.cache, options.cache_bytes)
    blobs = BucketBlobStore(objects, cache, timeout_s=options.timeout_s)
    store = AdapterStore(blobs, max_bytes=options.max_bytes, timeout_s=options.timeout_s)
    try:
        blobs.probe()
        store.adopt_all()
    except RefusedError as error:
        raise StartupError(f"cannot use {place} as the adapter store: {error.strerror}") from error
    except (BucketError, FileNotFoundError) as error:
        raise StoreUnavailableError(f"cannot use {place} as the adapter store: {error.strerror or error}") from error
    return store
