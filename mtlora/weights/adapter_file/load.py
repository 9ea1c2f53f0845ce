"""Strict reading of an adapter file: header, then names, shapes and types, then the tensors and their values."""

import hashlib
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import torch
from cachetools import LRUCache
from torch import Tensor

from mtlora.vocabulary.errors import AdapterFileError
from mtlora.vocabulary.model_shapes import Shapes, adapter_shapes
from mtlora.vocabulary.policy import PolicySpec, policy_shapes
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.trainable import is_policy
from mtlora.weights.adapter_file.announced import manifest_of, opened, read_header
from mtlora.weights.adapter_file.header import Entry, Header, clip, raise_if
from mtlora.weights.adapter_file.manifest import AdapterManifest

DEFAULT_MAX_BYTES = 2**30

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True, eq=False)
class AdapterSet:
    """A checked adapter set: every tensor its spec and its policy call for is there, well shaped and finite.

    tensors: {name: float32, float16 or bfloat16, as stored}, named as in the model; without the policy's
    digest:  sha256 of the file's bytes, 64 hexadecimal digits
    bytes:   size of the file
    policy_tensors: those of its policy, `policy.…`; empty where it has none
    """

    manifest: AdapterManifest
    tensors: dict[str, Tensor]
    digest: str
    bytes: int
    policy_tensors: dict[str, Tensor] = field(default_factory=dict)


class CheckedFiles:
    """Remembers of files that were checked what was found, so that a file that has not changed is not checked again.

    Not changed: the same inode, size and time of change; it may have been renamed. Such a
    file is read again, but neither parsed nor hashed. Safe to share between threads.
    """

    def __init__(self, memory_bytes: int = 16 * 2**20) -> None:
        self._known: LRUCache[tuple[int, ...], Checked] = LRUCache(
            memory_bytes, lambda kept: kept.manifest.memory_bytes
        )
        self._lock = threading.Lock()

    def find(self, status: os.stat_result) -> "Checked | None":
        """What was found in the file of this status."""
        with self._lock:
            return self._known.get(_identity(status))

    def add(self, status: os.stat_result, checked: "Checked") -> None:
        """A file was checked; those not read for longest are forgotten where there are too many."""
        with self._lock, suppress(ValueError):  # larger than all that may be remembered
            self._known[_identity(status)] = checked


class Checked(NamedTuple):
    """What is known of a file's content."""

    header: Header  # without its metadata; files of one layout share its entries
    manifest: AdapterManifest
    digest: str


def load_adapter(
    path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES, known: CheckedFiles | None = None, digest: str = ""
) -> AdapterSet:
    """Read and check a whole adapter file; `AdapterFileError.problems` lists everything that is wrong.

    The tensors share one buffer of the file's size. The backbone is not checked here: see `check_backbone`.

    known:  files that need no second check; this one is added to them
    digest: of a file that was hashed on its way here: it is checked, but not hashed again
    """
    path = Path(path)
    with opened(path) as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        if size > max_bytes:
            raise AdapterFileError(f"{path.name}: {size} bytes, the limit is {max_bytes}")
        if known is not None and not digest and (checked := known.find(status)) is not None:
            content = _whole(file, size, path.name)
            return _set(checked.manifest, _tensors(checked.header, content), checked.digest, size)
        header = read_header(file, path.name)
        manifest = manifest_of(header, path.name)
        raise_if(compare_shapes(expected_shapes(manifest), header_shapes(header)), f"{path.name}: wrong tensors")
        file.seek(0)
        content = _whole(file, size, path.name)
    tensors = _tensors(header, content)
    if not _plainly_finite(header, content):
        raise_if(not_finite(tensors), f"{path.name}: values that are not finite")
    digest = digest or hashlib.sha256(content).hexdigest()
    if known is not None:
        entries = _one_layout(tuple(header.entries.items()))
        known.add(status, Checked(Header(entries, {}, header.data_start), manifest, digest))
    return _set(manifest, tensors, digest, size)


def expected_shapes(manifest: AdapterManifest) -> Shapes:
    """Every tensor that a file with this manifest holds, no more and no less; not to be changed."""
    return _shapes(manifest.spec, manifest.policy and manifest.policy.shape)


def _set(manifest: AdapterManifest, tensors: dict[str, Tensor], digest: str, size: int) -> AdapterSet:
    policy = {name: tensor for name, tensor in tensors.items() if is_policy(name)}
    own = {name: tensor for name, tensor in tensors.items() if name not in policy} if policy else tensors
    return AdapterSet(manifest, own, digest, size, policy)


def compare_shapes(expected: Shapes, found: Shapes) -> list[str]:
    """Every tensor that is missing, unexpected or misshapen, in words."""
    problems = [f"{name}: missing, expected shape {list(expected[name])}" for name in expected.keys() - found.keys()]
    problems += [f"{clip(name)}: unexpected" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        if expected[name] != found[name]:
            problems.append(f"{name}: shape {list(found[name])}, expected {list(expected[name])}")
    return sorted(problems)


def header_shapes(header: Header) -> Shapes:
    """{name: shape} of the tensors a header announces."""
    return {name: entry.shape for name, entry in header.entries.items()}


def not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Every tensor with values that are NaN or infinite, in words."""
    return [
        f"{name}: {int((~torch.isfinite(tensor)).sum())} of {tensor.numel()} values are not finite"
        for name, tensor in tensors.items()
        if not is_finite(tensor)
    ]


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite. Smallest and largest carry any NaN: 10 to 60 times as fast as `isfinite`."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _whole(file: BufferedReader, size: int, source: str) -> bytearray:
    content = bytearray(size)
    found = file.readinto(content)
    if found != size or file.read(1):
        raise AdapterFileError(f"{source}: changed while it was read: it had {size} bytes")
    return content


@lru_cache(maxsize=64)
def _one_layout(entries: tuple[tuple[str, Entry], ...]) -> dict[str, Entry]:
    """The same object for equal entries; not to be changed."""
    return dict(entries)


@lru_cache(maxsize=64)
def _shapes(spec: AdapterSpec, policy: PolicySpec | None) -> Shapes:
    """Not to be changed. Sets of one shape are loaded again and again."""
    return adapter_shapes(spec) | (policy_shapes(spec, policy) if policy else {})


def _plainly_finite(header: Header, content: bytearray) -> bool:
    """Whether all values are finite, seen in one pass over the data; False as well where that cannot be told so."""
    dtypes = {DTYPES[entry.dtype] for entry in header.entries.values()}
    if len(dtypes) != 1 or header.data_start == len(content):
        return False
    (dtype,) = dtypes
    aligned = header.data_start % dtype.itemsize == 0
    return aligned and is_finite(torch.frombuffer(content, dtype=dtype, offset=header.data_start))


def _tensors(header: Header, content: bytearray) -> dict[str, Tensor]:
    """Views into the file's bytes; copied only where a stranger's file does not align its numbers."""
    tensors: dict[str, Tensor] = {}
    for name, entry in header.entries.items():
        dtype, start = DTYPES[entry.dtype], header.data_start + entry.begin
        count = (entry.end - entry.begin) // dtype.itemsize
        if start % dtype.itemsize:
            chunk = bytearray(memoryview(content)[start : header.data_start + entry.end])
            flat = torch.frombuffer(chunk, dtype=dtype, count=count)
        else:
            flat = torch.frombuffer(content, dtype=dtype, count=count, offset=start)
        tensors[name] = flat.view(entry.shape)
    return tensors
