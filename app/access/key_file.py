"""The key file: JSON with hashes, limits and dates of API keys. Read strictly, replaced atomically, never half-written.

{"format": 1, "keys": [{"label": "camera", "sha256": "…", "scopes": ["predict"], "namespace": "acme", …}]}
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from app.access.keys import ApiKey, check_distinct, first_fault
from app.core.errors import KeyFileError
from mtlora.weights.atomic import write_atomically
from mtlora.weights.plain_files import open_plain

MODE = 0o600
MAX_BYTES = 4 * 2**20
Signature = tuple[int, int, int]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    format: Literal[1] = 1
    keys: tuple[ApiKey, ...]


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file; `KeyFileError` if it is missing, unsafe or not a key file."""
    try:
        with open_plain(path) as file:
            _check_mode(os.fstat(file.fileno()).st_mode, path)
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise KeyFileError(f"there is no key file {path}; `mtlora keys new` makes one") from None
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be read: {error.strerror or error}") from error
    if len(text) > MAX_BYTES:
        raise KeyFileError(f"the key file {path} has more than {MAX_BYTES} bytes")
    try:
        return check_distinct(_Document.model_validate_json(text).keys)
    except ValidationError as error:
        raise KeyFileError(f"{path} is not a key file: {first_fault(error)}") from None
    except ValueError as error:
        raise KeyFileError(f"{path}: {error}") from None


def change_keys(path: Path, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
    """Apply a change to a key file, alone and atomically; a missing file counts as one without keys."""
    with _alone(path):
        before = read_keys(path) if path.exists() else ()
        text = _Document(keys=check_distinct(change(before))).model_dump_json(indent=1, exclude_none=True)

        def write(file: BinaryIO) -> None:
            os.fchmod(file.fileno(), MODE)  # before there is anything to read
            file.write(f"{text}\n".encode())

        write_atomically(path, write)


def signature(path: Path) -> Signature | None:
    """Changes whenever the file does; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _check_mode(mode: int, path: Path) -> None:
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KeyFileError(f"the key file {path} can be written by others (mode {mode & 0o777:o}); chmod 600 it")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep two commands from losing each other's change."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be changed: {error.strerror or error}") from error
