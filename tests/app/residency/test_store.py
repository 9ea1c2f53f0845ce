"""The store: atomic, swept, bounded, shared."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from app.errors import AdapterLoadError, BodyTooLargeError, StartupError, StoreFullError
from app.residency.state import SetState
from app.residency.store import AdapterStore


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore.open(tmp_path / "store")


def add(store: AdapterStore, name: str, content: bytes, *, activate: bool = True) -> tuple[int, bool]:
    staged = store.stage(10_000)
    try:
        staged.write(content)
        staged.finish()
        _, revision, created = store.add(name, staged, activate=activate)
    finally:
        staged.close()
    return revision.revision, created


def files(store: AdapterStore) -> set[str]:
    return {str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file()}


def test_files_are_named_by_digest_and_never_change(store: AdapterStore) -> None:
    assert add(store, "a", b"one") == (1, True)
    assert add(store, "a", b"two") == (2, True)
    assert add(store, "a", b"one") == (1, False)
    digest = hashlib.sha256(b"one").hexdigest()
    assert store.path("a", digest).read_bytes() == b"one"
    assert store.read("a").current == 1
    assert add(store, "a", b"two", activate=False) == (2, False)
    assert store.read("a").current == 1
    assert not list((store.root / "incoming").iterdir())


def test_another_process_sees_changes_at_once(store: AdapterStore) -> None:
    other = AdapterStore.open(store.root)
    add(store, "a", b"one")
    assert other.read("a").current == 1
    add(other, "a", b"two")
    assert store.read("a").current == 2
    assert store.names() == other.names() == ["a"]


def test_a_failing_change_changes_nothing(store: AdapterStore) -> None:
    add(store, "a", b"one")
    before = store.read("a")

    def change(state: SetState) -> SetState:
        raise RuntimeError("made to fail")

    with pytest.raises(RuntimeError, match="made to fail"):
        store.update("a", change)
    assert store.read("a") == before


@pytest.mark.parametrize("failing", ["rename", "fsync"])
def test_a_full_disk_leaves_no_trace(store: AdapterStore, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    add(store, "a", b"one")
    before, held = store.read("a"), files(store)
    staged = store.stage(10_000)
    staged.write(b"two")

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os if failing == "fsync" else Path, failing, full)
        with pytest.raises(StoreFullError, match="no room"):
            staged.finish()
            store.add("a", staged, activate=True)
    staged.close()
    assert store.read("a") == before
    assert files(store) == held


def test_a_disk_that_fills_between_file_and_state(store: AdapterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "a", b"one")
    held = files(store)
    staged = store.stage(10_000)
    staged.write(b"two")
    staged.finish()

    def full(state: SetState) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(store, "_write_state", full)
    with pytest.raises(StoreFullError):
        store.add("a", staged, activate=True)
    staged.close()
    assert files(store) == held


def test_quota(tmp_path: Path) -> None:
    store = AdapterStore.open(tmp_path / "store", max_bytes=5)
    add(store, "a", b"123")
    with pytest.raises(StoreFullError, match="may hold 5 bytes and has no room for 3 more"):
        add(store, "b", b"456")
    assert store.read("b").revisions == ()


def test_staged_files_are_bounded(store: AdapterStore) -> None:
    staged = store.stage(4)
    with pytest.raises(BodyTooLargeError, match="4 bytes"):
        staged.write(b"12345")
    staged.close()
    assert not list((store.root / "incoming").iterdir())


def test_sweep_removes_what_a_crash_left_and_nothing_else(store: AdapterStore) -> None:
    add(store, "a", b"one")
    held = files(store)
    living = store.stage(100)
    living.write(b"on its way")
    (store.root / "incoming" / "dead.part").write_bytes(b"half")
    (store.root / "sets" / "a" / f"{'0' * 64}.safetensors").write_bytes(b"renamed, but never named by the state")
    (store.root / "sets" / "a" / "state.json.123").write_bytes(b"{")
    AdapterStore.open(store.root)
    assert files(store) == held | {f"incoming/{living.path.name}"}
    living.close()


def test_discard_keeps_what_a_state_names(store: AdapterStore) -> None:
    add(store, "a", b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    store.discard("a", digest)
    assert store.path("a", digest).exists()
    store.update("a", lambda state: state.without(None))
    store.discard("a", digest)
    assert not store.path("a", digest).exists()


def test_a_damaged_state_is_an_error_not_an_empty_set(store: AdapterStore) -> None:
    add(store, "a", b"one")
    (store.root / "sets" / "a" / "state.json").write_text("{}")
    with pytest.raises(AdapterLoadError, match="'a' cannot be read"):
        store.read("a")


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StartupError, match="cannot use"):
        AdapterStore.open(tmp_path / "file" / "store")
