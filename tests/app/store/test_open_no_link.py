"""The lock of the store: between threads, between processes, and only for so long."""

import fcntl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.core.errors import StoreUnavailableError
from app.store.adapter_store import AdapterStore
from app.store.open_no_link import FolderLock, folder
from testing.clocks import Clock
from testing.stored_sets import add

HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """Another process has the lock, and does nothing."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.communicate(b"\n", timeout=30)


def test_a_lock_held_by_another_process_is_given_up_in_time_and_had_again(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = AdapterStore.open(root, timeout_s=0.05)
    add(store, "a", b"one")
    with held_elsewhere(root / "lock"):
        for change in (
            lambda: store.update("a", lambda state: state.replacing(pinned=True)),
            lambda: add(store, "a", b"two"),
            lambda: store.check(0.05),
        ):
            with pytest.raises(StoreUnavailableError, match=r"another process has held the lock .* for [0-9.]+ s"):
                change()
        assert store.fetch("a") == store.read("a")  # reading needs no lock
        assert not store.read("a").pinned
        assert store.changes() == {}
    store.check(0.05)
    assert add(store, "a", b"two") == (2, True)


def test_a_server_starts_while_the_lock_is_held(tmp_path: Path) -> None:
    root = tmp_path / "store"
    add(AdapterStore.open(root), "a", b"one")
    with held_elsewhere(root / "lock"):
        store = AdapterStore.open(root, timeout_s=0.05)
        assert store.names() == ["a"]


def test_threads_of_one_process_wait_no_longer_than_they_said(tmp_path: Path) -> None:
    lock, inside, go = FolderLock("lock"), threading.Event(), threading.Event()

    def hold() -> None:
        with folder(tmp_path) as place, lock.held(place, 30):
            inside.set()
            go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(30)
    with folder(tmp_path) as place:
        with (
            pytest.raises(
                StoreUnavailableError, match=r"the adapter store has not answered for [0-9.e-]+ s; sets cannot"
            ),
            lock.held(place, 0.01),
        ):
            pass
        go.set()
        with lock.held(place, 30):
            pass
    thread.join()


def refusal(store: AdapterStore, timeout_s: float = 0.02) -> StoreUnavailableError:
    with pytest.raises(StoreUnavailableError) as raised:
        store.check(timeout_s)
    return raised.value


def test_it_is_said_for_how_long_the_lock_was_held_not_for_how_long_was_waited(tmp_path: Path) -> None:
    clock = Clock()
    lock = FolderLock("lock", clock)

    def lasting_s() -> float | None:
        with pytest.raises(StoreUnavailableError) as raised, folder(tmp_path) as place, lock.held(place, 0):
            pass
        return raised.value.lasting_s

    (tmp_path / "lock").touch()
    with held_elsewhere(tmp_path / "lock"):
        assert lasting_s() == 0
        clock.now += 30
        assert lasting_s() == 30
    with folder(tmp_path) as place, lock.held(place, 0):
        clock.now += 5
    with held_elsewhere(tmp_path / "lock"):
        assert lasting_s() == 0


def test_who_stands_behind_a_thread_that_waits_is_told_who_has_the_lock(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = AdapterStore.open(root)
    with held_elsewhere(root / "lock"):
        threads = [threading.Thread(target=refusal, args=(store, 2.0)) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        assert refusal(store).state == "another process has held the lock of the adapter store"
        for thread in threads:
            thread.join()


def test_who_stands_behind_others_that_get_on_is_told_so(tmp_path: Path) -> None:
    """One after the other has its turn, for less time each than is waited."""
    lock, inside = FolderLock("lock"), threading.Event()
    turns = [threading.Event(), threading.Event()]

    def hold(until: threading.Event) -> None:
        with folder(tmp_path) as place, lock.held(place, 30):
            inside.set()
            until.wait(30)

    first, second = (threading.Thread(target=hold, args=(turn,)) for turn in turns)
    first.start()
    assert inside.wait(30)
    began = time.monotonic()
    turns[0].set()
    first.join()
    inside.clear()
    second.start()
    assert inside.wait(30)
    assert lock._no_turn(began).state == "changes before this one have taken the adapter store"
    turns[1].set()
    second.join()


def test_a_lock_file_that_was_replaced_is_not_the_lock_any_more(tmp_path: Path) -> None:
    """Who waited for the old file must not be let in beside who holds the new one."""
    old = (tmp_path / "lock").open("ab")
    fcntl.flock(old, fcntl.LOCK_EX)
    entered = threading.Event()

    def enter() -> None:
        with folder(tmp_path) as place, FolderLock("lock").held(place, 60):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    (tmp_path / "new").touch()
    with (tmp_path / "new").open("ab") as new:
        fcntl.flock(new, fcntl.LOCK_EX)
        (tmp_path / "new").rename(tmp_path / "lock")
        old.close()
        assert not entered.wait(0.2)
    thread.join(60)
    assert entered.is_set()
