"""What does not belong into the store's folder: links are not followed, nothing hangs, and only one set suffers."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.errors import AdapterConflictError, AdapterLoadError, StartupError, StoreFullError
from app.core.names import AdapterRef
from app.store import blob_store, open_no_link
from app.store import posix_blob_store as module
from app.store.adapter_store import AdapterStore
from app.store.posix_blob_store import PosixBlobStore
from testing.stored_sets import add, ref

Make = Callable[[Path, Path], None]


def link_to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def link_to_file(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "weights.safetensors")


def link_to_nothing(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "nothing")


def link_to_itself(path: Path, outside: Path) -> None:
    path.symlink_to(path)


def plain_file(path: Path, outside: Path) -> None:
    path.write_text("no folder")


def plain_folder(path: Path, outside: Path) -> None:
    (path / "inside").mkdir(parents=True)


def pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def socket_file(path: Path, outside: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


LINKS: list[Make] = [link_to_folder, link_to_file, link_to_nothing, link_to_itself]
NO_FILES: list[Make] = [*LINKS, plain_folder, pipe, socket_file]
NO_FOLDERS: list[Make] = [*LINKS, plain_file, pipe, socket_file]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with the sets good and hurt."""
    store = AdapterStore.open(tmp_path / "store")
    for name in ("good", "hurt"):
        add(store, name, name.encode())
    return tmp_path / "store"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody else's, with what a store would sweep away."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("weights.safetensors", "state.json.123", "dead.part"):
        (folder / name).write_text("precious")
    (folder / "state.json").write_text("{}")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["entry"] for record in caplog.records if "entry" in vars(record)]


@pytest.mark.parametrize("make", NO_FOLDERS)
def test_in_place_of_a_set(root: Path, outside: Path, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    make(root / "sets" / "odd", outside)
    before = contents(outside)
    store = AdapterStore.open(root)
    assert store.names() == ["good", "hurt"]
    assert store.fetch("odd").revisions == ()
    with pytest.raises(AdapterConflictError, match="no folder has the place of adapter set 'odd'"):
        add(store, "odd", b"new")
    assert contents(outside) == before
    assert not list((root / "incoming").iterdir())
    add(store, "good", b"more")
    store.changes()
    assert told(caplog) == ["odd"]  # once, however often it is seen


@pytest.mark.parametrize("make", NO_FILES)
def test_in_place_of_a_state(root: Path, outside: Path, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    (root / "sets" / "hurt" / "state.json").unlink()
    make(root / "sets" / "hurt" / "state.json", outside)
    before = contents(outside)
    store = AdapterStore.open(root)
    assert store.names() == ["good"]
    with pytest.raises(AdapterLoadError, match=r"the state of adapter set 'hurt' cannot be read: state\.json"):
        store.fetch("hurt")
    with pytest.raises(AdapterLoadError, match="'hurt' cannot be read"):
        add(store, "hurt", b"new")
    assert store.path(ref("hurt", 1, b"hurt")).exists()
    assert contents(outside) == before
    assert set(told(caplog)) == {"hurt"}


@pytest.mark.parametrize("make", NO_FILES)
def test_in_place_of_an_adapter_file(root: Path, outside: Path, make: Make) -> None:
    store = AdapterStore.open(root)
    path = store.path(ref("hurt", 1, b"hurt"))
    path.unlink()
    make(path, outside)
    before = contents(outside)
    with pytest.raises(AdapterLoadError, match=r"'hurt' cannot be read: .* is no plain file"):
        store.path(ref("hurt", 1, b"hurt"))
    assert AdapterStore.open(root).names() == ["good", "hurt"]
    assert contents(outside) == before


def test_a_folder_of_a_set_that_became_a_link(root: Path, outside: Path) -> None:
    store = AdapterStore.open(root)
    (root / "sets" / "hurt").rename(root / "elsewhere")
    (root / "sets" / "hurt").symlink_to(root / "elsewhere")
    with pytest.raises(AdapterLoadError, match="hurt in the store is no plain folder"):
        store.path(ref("hurt", 1, b"hurt"))
    assert store.fetch("hurt").revisions == ()
    store.discard(ref("hurt", 1, b"hurt"))
    assert list((root / "elsewhere").glob("*.safetensors"))  # nothing was deleted through the link
    with pytest.raises(AdapterConflictError, match="'hurt'"):
        add(store, "hurt", b"new")


@pytest.mark.parametrize("make", NO_FILES)
def test_among_incoming_files(root: Path, outside: Path, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    make(root / "incoming" / "odd.part", outside)
    (root / "incoming" / "dead.part").write_bytes(b"half")
    before = contents(outside)
    AdapterStore.open(root)
    assert [path.name for path in (root / "incoming").iterdir()] == ["odd.part"]
    assert contents(outside) == before
    assert told(caplog) == ["odd.part"]


@pytest.mark.parametrize("make", NO_FILES)
@pytest.mark.parametrize("name", ["1-stray.safetensors", "state.json.draft"])
def test_among_what_crashes_leave(root: Path, outside: Path, make: Make, name: str) -> None:
    make(root / "sets" / "good" / name, outside)
    before = contents(outside)
    assert AdapterStore.open(root).names() == ["good", "hurt"]
    assert contents(outside) == before


@pytest.mark.parametrize("make", NO_FILES)
@pytest.mark.parametrize("name", ["generation", "reserve"])
def test_in_place_of_the_store_s_own_files(root: Path, outside: Path, make: Make, name: str) -> None:
    (root / name).unlink()
    make(root / name, outside)
    before = contents(outside)
    store = AdapterStore.open(root)
    add(store, "good", b"more")
    assert store.names() == ["good", "hurt"]
    assert contents(outside) == before
    if name == "generation":  # then nobody knows when to look, which is said
        with pytest.raises(OSError, match="generation"):
            store.changes()


@pytest.mark.parametrize("make", NO_FILES)
def test_in_place_of_the_lock_nothing_can_be_changed(root: Path, outside: Path, make: Make) -> None:
    (root / "lock").unlink()
    make(root / "lock", outside)
    with pytest.raises(StartupError, match="'lock' is a file, none of them a link"):
        AdapterStore.open(root)


@pytest.mark.parametrize("name", ["sets", "incoming"])
def test_the_store_s_own_folders_are_no_links(root: Path, outside: Path, name: str) -> None:
    (root / name).rename(root / "moved")
    (root / name).symlink_to(outside)
    before = contents(outside)
    with pytest.raises(StartupError, match="cannot use"):
        AdapterStore.open(root)
    assert contents(outside) == before


def test_the_store_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    store = AdapterStore.open(tmp_path / "link")
    assert add(store, "good", b"more") == (2, True)
    assert AdapterStore.open(root).read("good").current == 2


@pytest.mark.parametrize("folder", [b"Capitals", b"\xff\xfe", b"a+b+c", b".hidden", b"two words"])
def test_names_that_no_set_may_have(root: Path, folder: bytes, caplog: pytest.LogCaptureFixture) -> None:
    home = root / "sets" / os.fsdecode(folder)
    home.mkdir()
    for name in ("state.json", "1-stray.safetensors"):
        (home / name).write_text("{}")
    store = AdapterStore.open(root)
    assert store.names() == ["good", "hurt"]
    assert len(list(home.iterdir())) == 2
    assert told(caplog) == [ascii(home.name)[1:-1]]


def test_states_too_large_to_be_true(root: Path) -> None:
    with (root / "sets" / "hurt" / "state.json").open("r+b") as file:
        file.truncate(2**30)  # takes no room on the disk
    store = AdapterStore.open(root)
    assert store.names() == ["good"]
    with pytest.raises(AdapterLoadError, match=rf"state\.json: {2**30} bytes"):
        store.fetch("hurt")


def test_a_state_never_grows_beyond_what_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (blob_store, module):
        monkeypatch.setattr(part, "MAX_DOCUMENT_BYTES", 1000)
    store = AdapterStore.open(root)
    with pytest.raises(StoreFullError, match="'good' has too many revisions"):
        for number in range(20):
            add(store, "good", b"%d" % number)
    assert AdapterStore.open(root).read("good") == store.read("good")
    named = {store.path(AdapterRef("good", r.revision, r.digest)) for r in store.read("good").revisions}
    assert named == set((root / "sets" / "good").glob("*.safetensors"))


@pytest.mark.parametrize(
    "text", [b"[" * 1_000_000, b'{"a":' * 1_000_000, b"\xff\xfe", b"null", b"1e999", b'{"name": "hurt"']
)
def test_states_that_are_no_states(root: Path, text: bytes) -> None:
    (root / "sets" / "hurt" / "state.json").write_bytes(text)
    store = AdapterStore.open(root)
    assert store.names() == ["good"]
    with pytest.raises(AdapterLoadError, match="'hurt' cannot be read"):
        store.fetch("hurt")


def test_hard_links_are_files_like_others(root: Path) -> None:
    path = AdapterStore.open(root).path(ref("good", 1, b"good"))
    os.link(path, root / "kept")
    os.link(root / "sets" / "hurt" / "state.json", root / "kept.json")
    store = AdapterStore.open(root)
    assert store.path(ref("good", 1, b"good")).read_bytes() == b"good"
    assert store.names() == ["good", "hurt"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_what_cannot_be_read_costs_its_own_set(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As for a user without the right; whoever runs the tests may have every right."""
    store = AdapterStore.open(root)
    plain = open_no_link.open_file

    def refuse(name: str, parent: int, flags: int = os.O_RDONLY) -> int:
        if name == "state.json" and os.path.samestat(os.fstat(parent), (root / "sets" / "hurt").stat()):
            raise OSError(number, os.strerror(number), name)
        return plain(name, parent, flags)

    monkeypatch.setattr(module, "open_file", refuse)
    again = AdapterStore.open(root)
    assert again.names() == ["good"]
    with pytest.raises(AdapterLoadError, match="'hurt' cannot be read"):
        add(again, "hurt", b"new")
    assert again.path(ref("hurt", 1, b"hurt")).exists()
    assert store.read("hurt").current == 1  # who knew it goes on


def test_a_store_that_was_removed_is_not_made_again(root: Path) -> None:
    blobs = PosixBlobStore.open(root)
    root.rename(root.with_name("gone"))
    for ask in (blobs.generation, lambda: blobs.read("good"), lambda: blobs.stage(10), lambda: blobs.check(1)):
        with pytest.raises(FileNotFoundError):
            ask()
    assert not root.exists()
    root.with_name("gone").rename(root)
    blobs.check(1)
