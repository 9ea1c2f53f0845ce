"""BlobStore in a folder: compare and swap, bounded files on their way in, room for deletes on a really full disk."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import BodyTooLargeError, StoreFullError
from app.store.posix_blob_store import PosixBlobStore
from app.store.staged_file import StagedFile

KEY = f"1-{'0' * 64}.safetensors"
DISK_BYTES = 1024 * 1024


@pytest.fixture
def blobs(tmp_path: Path) -> PosixBlobStore:
    return PosixBlobStore.open(tmp_path / "store")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def staged(blobs: PosixBlobStore, content: bytes) -> StagedFile:
    file = blobs.stage(len(content))
    file.write(content)
    file.finish()
    return file


def test_compare_and_swap(blobs: PosixBlobStore) -> None:
    first = blobs.generation()
    assert blobs.swap("a", b"", b"one")
    second = blobs.generation()
    assert not blobs.swap("a", b"", b"two")
    assert not blobs.swap("a", b"other", b"two")
    assert blobs.generation() == second != first
    assert blobs.swap("a", b"one", b"two")
    assert (blobs.read("a"), dict(blobs.documents())) == (b"two", {"a": b"two"})


def test_a_blob_comes_with_its_document_or_not_at_all(blobs: PosixBlobStore) -> None:
    late = staged(blobs, b"late")
    assert not blobs.swap("a", b"never written", b"one", (KEY, late))
    assert not blobs.locate("a", KEY).exists()
    assert blobs.swap("a", b"", b"one", (KEY, late))
    late.close()
    assert blobs.locate("a", KEY).read_bytes() == b"late"
    blobs.delete("a", KEY)
    blobs.delete("a", KEY)
    assert not blobs.locate("a", KEY).exists()


def test_changes_in_one_tick_of_the_clock_are_seen(blobs: PosixBlobStore) -> None:
    """Documents of one length, written so fast that a file's time does not tell them apart."""
    text, other = b"", PosixBlobStore.open(blobs.root)
    for number in range(50):
        blobs.swap("a", text, text := b"%03d" % number)
        assert other.read("a") == text


def test_staged_files_are_bounded(blobs: PosixBlobStore) -> None:
    file = blobs.stage(4)
    with pytest.raises(BodyTooLargeError, match="4 bytes"):
        file.write(b"12345")
    file.close()
    assert not list((blobs.root / "incoming").iterdir())


def test_a_really_full_disk(small_disk: Path) -> None:
    """Uploads are refused and leave nothing; documents can still be changed, so that sets can be deleted."""
    blobs = PosixBlobStore.open(small_disk / "store")
    text = b""
    for name in ("a", "b"):
        file = staged(blobs, name.encode() * 100_000)
        assert blobs.swap(name, b"", b"one", (KEY, file))
        file.close()
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as handle:
        while True:
            handle.write(os.urandom(4096))
            handle.flush()
    before = sorted(p for p in blobs.root.rglob("*") if p.is_file() and p.name != "reserve")
    with pytest.raises(StoreFullError, match="no room"):
        staged(blobs, b"x" * 100_000)
    for part in (blobs.root / "incoming").iterdir():  # what a caller that did not close left
        part.unlink()
    assert sorted(p for p in blobs.root.rglob("*") if p.is_file() and p.name != "reserve") == before
    text = b"one"
    for number in range(20):
        assert blobs.swap("a", text, text := b"changed %d " % number * 100)
    assert blobs.read("a") == text
    blobs.delete("b", KEY)
    filler.unlink()
    assert blobs.swap("a", text, b"last")
    assert (blobs.root / "reserve").stat().st_size > 0  # back for the next time
