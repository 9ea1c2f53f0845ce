"""A file that was checked and has not changed is not checked again; one that changed is."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mtlora.vocabulary.errors import AdapterFileError
from mtlora.weights.adapter_file import CheckedFiles, load_adapter, save_adapter
from testing.small_models import FINGERPRINT, SPEC, random_tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "set.safetensors"
    save_adapter(path, SPEC, random_tensors(SPEC), backbone_name="swin_test", backbone_fingerprint=FINGERPRINT)
    return path


def test_the_second_load_is_the_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = CheckedFiles()
    first = load_adapter(path, known=known)
    monkeypatch.setattr("mtlora.weights.adapter_file.load.hashlib", None)  # not hashed, not parsed
    monkeypatch.setattr("mtlora.weights.adapter_file.announced.parse_header", None)
    second = load_adapter(path, known=known)
    assert (second.manifest, second.digest, second.bytes) == (first.manifest, first.digest, first.bytes)
    assert second.tensors.keys() == first.tensors.keys()
    assert all(torch.equal(second.tensors[name], tensor) for name, tensor in first.tensors.items())


def test_a_file_that_was_hashed_on_its_way_is_checked_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = CheckedFiles()
    digest = load_adapter(path, known=known).digest
    monkeypatch.setattr("mtlora.weights.adapter_file.load.hashlib", None)
    given = load_adapter(path, known=known, digest="7" * 64)  # never taken for another file that looks like it
    assert given.digest == "7" * 64 and load_adapter(path, known=known).digest == given.digest != digest
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\xff\x7f")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(AdapterFileError, match="not finite"):
        load_adapter(path, known=known, digest="8" * 64)


def test_a_file_that_was_replaced_is_checked(path: Path) -> None:
    known = CheckedFiles()
    first = load_adapter(path, known=known)
    content = bytearray(path.read_bytes())
    content[-2:] = b"\x00\x3c"  # another value, as float16: 1.0
    other = path.with_suffix(".new")
    other.write_bytes(content)
    other.replace(path)
    assert load_adapter(path, known=known).digest != first.digest
    content[-2:] = b"\xff\x7f"  # not a number
    other.write_bytes(content)
    other.replace(path)
    with pytest.raises(AdapterFileError, match="not finite"):
        load_adapter(path, known=known)


def test_a_file_that_was_written_to_is_checked(path: Path) -> None:
    known = CheckedFiles()
    load_adapter(path, known=known)
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\xff\x7f")
    os.utime(path, ns=(1, 1))
    with pytest.raises(AdapterFileError, match="not finite"):
        load_adapter(path, known=known)


def test_a_file_that_was_refused_is_not_known(path: Path) -> None:
    known = CheckedFiles()
    content = bytearray(path.read_bytes())
    content[-2:] = b"\xff\x7f"
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(AdapterFileError, match="not finite"):
            load_adapter(path, known=known)


def test_only_so_many_are_remembered(path: Path) -> None:
    size = load_adapter(path).manifest.memory_bytes
    known = CheckedFiles(memory_bytes=2 * size - 1)
    load_adapter(path, known=known)
    copy = path.with_name("copy.safetensors")
    copy.write_bytes(path.read_bytes())
    load_adapter(copy, known=known)
    assert known.find(path.stat()) is None
    assert known.find(copy.stat()) is not None


def test_a_file_that_exceeds_the_memory_is_read_and_not_remembered(path: Path) -> None:
    known = CheckedFiles(memory_bytes=load_adapter(path).manifest.memory_bytes - 1)
    load_adapter(path, known=known)
    assert known.find(path.stat()) is None


def test_threads_share_what_is_remembered_and_its_limit(path: Path) -> None:
    """Two files of which only one fits, read by several threads at once: no thread fails, and one is left."""
    copy = path.with_name("copy.safetensors")
    copy.write_bytes(path.read_bytes())
    known = CheckedFiles(memory_bytes=2 * load_adapter(path).manifest.memory_bytes - 1)
    with ThreadPoolExecutor(4) as threads:
        digests = set(threads.map(lambda file: load_adapter(file, known=known).digest, [path, copy] * 20))
    assert len(digests) == 1
    assert sum(known.find(file.stat()) is not None for file in (path, copy)) == 1


def test_what_is_remembered_of_files_of_one_shape_is_shared(path: Path) -> None:
    """Of hundreds of files a thousand objects each would be hundreds of megabytes."""
    known = CheckedFiles()
    copy = path.with_name("copy.safetensors")
    copy.write_bytes(path.read_bytes())
    one, other = load_adapter(path, known=known), load_adapter(copy, known=known)
    assert one.manifest.spec is other.manifest.spec
    found, twin = known.find(path.stat()), known.find(copy.stat())
    assert found is not None
    assert twin is not None
    assert found.header.entries is twin.header.entries
