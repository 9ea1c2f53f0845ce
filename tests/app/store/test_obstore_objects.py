"""A bucket over HTTP. moto speaks the protocol; its conditional writes are not atomic, so no race is tried here."""

import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import StoreUnavailableError
from app.store.adapter_store import AdapterStore
from app.store.objects import BucketError, Version
from app.store.obstore_objects import ObstoreObjects, open_objects
from app.store.open_store import StoreOptions, open_store
from app.store.place import BucketPlace
from testing.stored_sets import add, ref

moto_server = pytest.importorskip("moto.server")
pytest.importorskip("obstore")

FOLLOWERS, SWITCHES = 20, 10


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketPlace]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"sets-{uuid.uuid4().hex}"  # moto's buckets outlive its servers
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/{bucket}", method="PUT"), timeout=10).close()
    yield BucketPlace("s3", bucket, "some/where")
    server.stop()


@pytest.fixture
def objects(place: BucketPlace) -> ObstoreObjects:
    return open_objects(place, 10.0)


def test_conditions_of_writes(objects: ObstoreObjects) -> None:
    first = objects.put("a", b"one", over=None)
    assert first is not None
    assert objects.put("a", b"two", over=None) is None
    assert objects.put("a", b"two", over=Version('"none"')) is None
    second = objects.put("a", b"two", over=first)
    assert second is not None
    assert objects.get("a", unless=second) is None
    content = objects.get("a", unless=first)
    assert content is not None
    assert (content.data, content.version.e_tag) == (b"two", second.e_tag)


def test_files(objects: ObstoreObjects, tmp_path: Path) -> None:
    data = bytes(range(256)) * 30_000  # more than one piece
    (tmp_path / "file").write_bytes(data)
    objects.upload("sets/a/file", tmp_path / "file")
    assert b"".join(objects.download("sets/a/file")) == data
    assert objects.get_beginning("sets/a/file", 10) == (data[:10], len(data))
    assert [(found.key, found.size) for found in objects.list("sets")] == [("sets/a/file", len(data))]
    for _ in range(2):
        objects.delete("sets/a/file")
    assert list(objects.list("sets")) == []


def test_what_is_not_there(objects: ObstoreObjects) -> None:
    with pytest.raises(FileNotFoundError):
        objects.get("a")
    with pytest.raises(FileNotFoundError):
        objects.get_beginning("a", 10)
    with pytest.raises(FileNotFoundError):
        next(objects.download("a"))


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    place = BucketPlace("s3", "sets-of-ours")
    with pytest.raises(BucketError):
        open_objects(place, 1.0).get("a")
    with pytest.raises(StoreUnavailableError, match="s3://sets-of-ours"):
        open_store(place, StoreOptions(cache=tmp_path))


def opened(place: BucketPlace, cache: Path) -> AdapterStore:
    return open_store(place, StoreOptions(cache=cache))


def test_another_server_has_the_set(place: BucketPlace, tmp_path: Path) -> None:
    add(opened(place, tmp_path / "a"), "cats", b"content")
    other = opened(place, tmp_path / "b")
    assert other.read("cats").current == 1
    copy = other.path(ref("cats", 1, b"content"))
    assert copy.is_relative_to(tmp_path / "b")
    assert copy.read_bytes() == b"content"


@pytest.mark.slow
def test_every_follower_sees_every_switch_at_its_next_look(place: BucketPlace, tmp_path: Path) -> None:
    writer = opened(place, tmp_path / "writer")
    for content in (b"one", b"two"):
        add(writer, "cats", content)
    followers = [opened(place, tmp_path / "followers") for _ in range(FOLLOWERS)]
    for follower in followers:
        follower.adopt(follower.changes().values())
    for switch in range(SWITCHES):
        current = 1 + switch % 2
        writer.update("cats", lambda state, current=current: state.replacing(current=current))
        for follower in followers:
            assert [state.current for state in follower.changes().values()] == [current]
            follower.adopt(follower.changes().values())
