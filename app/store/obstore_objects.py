"""Objects over `obstore`: Amazon S3 and its like, Google Cloud Storage, Azure Blob Storage, or the memory of tests.

Credentials and region come from where these services' clients look for them: environment, files that it names, workload
identity, instance metadata. The library never repeats a conditional write: a repeated one is refused by its own
first try. `BucketBlobStore` settles what is left open.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from app.core.errors import StartupError
from app.store.objects import BucketError, Content, Listed, RefusedError, Version
from app.store.place import BucketPlace
from app.store.shared_credentials import from_profile

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, UpdateVersion
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
PIECE_BYTES = 5 * 2**20  # of a file on its way; S3 takes no smaller ones
PIECES_AT_ONCE = 4
CONNECT_S = 3.0
LONGEST_FILE = timedelta(hours=1)  # a file that moves on may take long; one that stands still may not
SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class ObstoreObjects:
    """`Objects` of one bucket's prefix.

    small: gives up soon, repeats nothing; large: for files, gives up only when nothing moves
    """

    small: "ObjectStore"
    large: "ObjectStore"

    def get(self, key: str, unless: Version | None = None) -> Content | None:
        """A small object; None if it still is the version given. `FileNotFoundError` if there is none."""
        with _said():
            try:
                result = obstore.get(
                    self.small, key, options={"if_none_match": unless.e_tag} if unless and unless.e_tag else {}
                )
                return Content(bytes(result.bytes()), _version(result.meta), result.meta["last_modified"])
            except NotModifiedError:
                return None

    def get_beginning(self, key: str, count: int) -> tuple[bytes, int]:
        """The first bytes of an object, as many as there are, and the size of it all."""
        with _said():
            result = obstore.get(self.small, key, options={"range": (0, count)})
            return bytes(result.bytes()), result.meta["size"]

    def download(self, key: str) -> Iterator[bytes]:
        """A large object, in pieces. `FileNotFoundError` if there is none."""
        with _said():
            for piece in obstore.get(self.large, key).stream(min_chunk_size=2**20):
                yield bytes(piece)

    def put(self, key: str, data: bytes, over: Version | None) -> Version | None:
        """Write a small object if it still is that version (None: if there is none); None: it is not, or may not be."""
        mode: PutMode = "create" if over is None else _condition(over)
        with _said():
            try:
                return _version(obstore.put(self.small, key, data, mode=mode, use_multipart=False))
            except (AlreadyExistsError, PreconditionError):
                return None

    def upload(self, key: str, path: Path) -> None:
        """Write a file as an object, whatever was there."""
        with _said():
            obstore.put(self.large, key, path, chunk_size=PIECE_BYTES, max_concurrency=PIECES_AT_ONCE)

    def list(self, under: str) -> Iterator[Listed]:
        """Every object whose key begins with these components."""
        with _said():
            for chunk in obstore.list(self.small, under):
                for meta in chunk:
                    yield Listed(meta["path"], meta["size"], _version(meta), meta["last_modified"])

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if it is not there."""
        with _said():
            try:
                obstore.delete(self.small, key)
            except FileNotFoundError:
                return


def open_objects(place: BucketPlace, timeout_s: float, environment: Mapping[str, str] = os.environ) -> ObstoreObjects:
    """The objects of a place; asks it nothing yet. `StartupError` if what is set makes no client.

    timeout_s: how long one request for a small object may take, and how long a file may stand still
    """
    connect = timedelta(seconds=min(CONNECT_S, timeout_s))
    patience = timedelta(seconds=timeout_s)
    soon: ClientConfig = {"timeout": patience, "connect_timeout": connect}
    long: ClientConfig = {"timeout": LONGEST_FILE, "read_timeout": patience, "connect_timeout": connect}
    try:
        return ObstoreObjects(_store(place, soon, environment), _store(place, long, environment))
    except BaseError as error:
        raise StartupError(f"cannot use {place} as the adapter store: {_first_line(error)}") from error


def _store(place: BucketPlace, client: "ClientConfig", environment: Mapping[str, str]) -> "ObjectStore":
    once: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
    prefix = place.prefix or None
    if place.scheme == "gs":
        return GCSStore(place.bucket, prefix=prefix, client_options=client, retry_config=once)
    if place.scheme == "az":
        return AzureStore(place.bucket, prefix=prefix, client_options=client, retry_config=once)
    endpoint = next((environment[name] for name in ENDPOINTS if environment.get(name)), "")
    if endpoint.startswith("http://"):
        client = {**client, "allow_http": True}
    config: dict[str, Any] = from_profile(environment)
    if endpoint:
        config["endpoint"] = endpoint
    return S3Store(
        place.bucket, prefix=prefix, config=config, client_options=client, retry_config=once  # type: ignore[arg-type]
    )  # fmt: skip


@contextmanager
def _said() -> Iterator[None]:
    """Say what failed in words of `objects`."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise RefusedError(f"the bucket refuses: {_first_line(error)}") from error
    except BaseError as error:
        raise BucketError(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    """What happened; the lines below it are the library's insides."""
    return str(error).split("\n", 1)[0][:SHOWN_CHARACTERS]


def _version(meta: "Mapping[str, Any] | ObjectMeta") -> Version:
    return Version(meta.get("e_tag") or "", meta.get("version") or "")


def _condition(version: Version) -> "UpdateVersion":
    found: UpdateVersion = {}
    if version.e_tag:
        found["e_tag"] = version.e_tag
    if version.version:
        found["version"] = version.version
    return found
