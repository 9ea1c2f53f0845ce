"""The store: atomic, swept, bounded, shared."""

import errno
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import AdapterLoadError, StartupError, StoreFullError
from app.core.names import AdapterRef
from app.store.adapter_store import AdapterStore
from app.store.posix_blob_store import PosixBlobStore
from app.store.set_state import SetState
from testing.stored_sets import add, ref


def files(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


def test_files_are_named_by_digest_and_never_change(store: AdapterStore, root: Path) -> None:
    assert add(store, "a", b"one") == (1, True)
    assert add(store, "a", b"two") == (2, True)
    assert add(store, "a", b"one") == (1, False)
    path = store.path(ref("a", 1, b"one"))
    assert path.read_bytes() == b"one"
    assert hashlib.sha256(b"one").hexdigest() in path.name
    assert store.read("a").current == 1
    assert add(store, "a", b"two", activate=False) == (2, False)
    assert store.read("a").current == 1
    assert not list((root / "incoming").iterdir())


def test_another_process_s_changes_are_told_once_and_known_when_adopted(store: AdapterStore, root: Path) -> None:
    other = AdapterStore.open(root)
    add(store, "a", b"one")
    assert other.read("a").revisions == ()
    assert other.fetch("a").current == 1
    changes = other.changes()
    assert list(changes) == ["a"]
    other.adopt(changes.values())
    assert other.read("a") == store.read("a")
    assert other.changes() == {}
    add(other, "a", b"two")  # one's own changes are known at once
    assert other.read("a").current == 2
    assert store.fetch("a").current == 2
    assert store.names() == other.names() == ["a"]


def test_later_states_are_not_taken_back_by_earlier_ones(store: AdapterStore, root: Path) -> None:
    other = AdapterStore.open(root)
    add(store, "a", b"one")
    early = other.changes().values()
    add(other, "a", b"two")
    other.adopt(early)
    assert other.read("a").current == 2


def test_changes_of_many_stores_at_once_all_count(root: Path) -> None:
    """Compare and swap: nobody's change is lost, and no number is given twice."""
    stores = [AdapterStore.open(root) for _ in range(4)]

    def work(number: int) -> None:
        for step in range(8):
            add(stores[number], "a", f"{number}-{step}".encode())
            stores[number].update("a", lambda state: state.replacing(pinned=not state.pinned))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = stores[0].fetch("a")
    assert [r.revision for r in state.revisions] == list(range(1, 33))
    assert state.changes == 64
    for revision in state.revisions:
        content = stores[0].path(AdapterRef("a", revision.revision, revision.digest)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == revision.digest


def test_the_same_bytes_from_everywhere_at_once_are_one_revision(root: Path) -> None:
    stores = [AdapterStore.open(root) for _ in range(4)]
    results: list[tuple[int, bool]] = []
    threads = [threading.Thread(target=lambda s=s: results.append(add(s, "a", b"same"))) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(1, False)] * 3 + [(1, True)]
    assert stores[0].path(ref("a", 1, b"same")).read_bytes() == b"same"
    assert len(list(root.rglob("*.safetensors"))) == 1


def test_uploads_while_the_set_is_deleted(root: Path) -> None:
    """Whatever the order, a state never names a file that is not there."""
    stores = [AdapterStore.open(root) for _ in range(2)]
    stop = threading.Event()

    def delete() -> None:
        while not stop.is_set():
            gone: list[AdapterRef] = []

            def change(state: SetState, gone: list[AdapterRef] = gone) -> SetState:
                gone[:] = [AdapterRef("a", r.revision, r.digest) for r in state.revisions]
                return state.without(None)

            stores[1].update("a", change)
            for one in gone:
                stores[1].discard(one)

    thread = threading.Thread(target=delete)
    thread.start()
    for step in range(60):
        add(stores[0], "a", b"content %d" % (step % 3))
    stop.set()
    thread.join()
    add(stores[0], "a", b"last")
    named = {stores[0].path(AdapterRef("a", r.revision, r.digest)) for r in stores[0].fetch("a").revisions}
    assert named == set(root.rglob("*.safetensors"))


def test_a_failing_change_changes_nothing(store: AdapterStore) -> None:
    add(store, "a", b"one")
    before = store.read("a")

    def change(state: SetState) -> SetState:
        raise RuntimeError("made to fail")

    with pytest.raises(RuntimeError, match="made to fail"):
        store.update("a", change)
    assert store.read("a") == store.fetch("a") == before


@pytest.mark.parametrize("failing", ["rename", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_no_trace(
    store: AdapterStore, root: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    add(store, "a", b"one")
    before, held = store.read("a"), files(root)
    staged = store.stage(10_000)
    staged.write(b"two")

    def full(*args: Any, **places: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(StoreFullError, match="no room"):
            staged.finish()
            store.add("a", staged, activate=True)
    staged.close()
    assert store.read("a") == store.fetch("a") == before
    assert files(root) == held


def test_a_disk_that_fills_between_file_and_state(
    store: AdapterStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "a", b"one")
    held = files(root)
    staged = store.stage(10_000)
    staged.write(b"two")
    staged.finish()

    def full(blobs: PosixBlobStore, name: str, text: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PosixBlobStore, "_replace", full)
    with pytest.raises(StoreFullError):
        store.add("a", staged, activate=True)
    staged.close()
    assert files(root) == held


def test_quota(root: Path) -> None:
    store = AdapterStore.open(root, max_bytes=5)
    other = AdapterStore.open(root, max_bytes=5)
    add(store, "a", b"123")
    for here in (store, other):
        with pytest.raises(StoreFullError, match="may hold 5 bytes and has no room for 3 more"):
            add(here, "b", b"456")
        assert here.read("b").revisions == ()


def test_sweep_removes_what_a_crash_left_and_nothing_else(store: AdapterStore, root: Path) -> None:
    add(store, "a", b"one")
    (root / "sets" / "notes").mkdir()
    (root / "sets" / "notes" / "mine.txt").write_text("not ours to remove")
    held = files(root)
    living = store.stage(100)
    living.write(b"on its way")
    (root / "incoming" / "dead.part").write_bytes(b"half")
    (root / "sets" / "a" / f"2-{'0' * 64}.safetensors").write_bytes(b"moved, but never named by the state")
    (root / "sets" / "a" / "state.json.123").write_bytes(b"{")
    AdapterStore.open(root)
    assert files(root) == held | {f"incoming/{living.path.name}"}
    living.close()


def test_a_damaged_state_is_an_error_not_an_empty_set(store: AdapterStore, root: Path) -> None:
    add(store, "a", b"one")
    add(store, "b", b"two")
    (root / "sets" / "a" / "state.json").write_text("{}")
    again = AdapterStore.open(root)
    with pytest.raises(AdapterLoadError, match="'a' cannot be read"):
        again.fetch("a")
    with pytest.raises(AdapterLoadError, match="'a' cannot be read"):
        add(again, "a", b"three")
    assert store.path(ref("a", 1, b"one")).exists()  # what a damaged state may have named is not swept away
    assert again.names() == ["b"]
    (root / "sets" / "a" / "state.json").write_bytes((root / "sets" / "b" / "state.json").read_bytes())
    with pytest.raises(AdapterLoadError, match="'a' cannot be read"):  # the state of another set
        again.fetch("a")


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StartupError, match="cannot use"):
        AdapterStore.open(tmp_path / "file" / "store")
