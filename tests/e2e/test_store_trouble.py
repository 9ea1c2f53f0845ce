"""A server whose store is locked by a frozen process, removed, or full of odd things: predictions go on."""

import fcntl
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from testing.serving import ServerProcess, Weights, encoded, picture, wait_until

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}
AT_ONCE = 100  # more changes than the server lets wait
TIMEOUT_S = 2.0
STORE_TYPE = "urn:mtlora:problem:store-unavailable"


@pytest.fixture
def server(weights: Weights, tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(weights, tmp_path / "store", store_timeout_s=TIMEOUT_S, grace_s=5)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def upload(url: str, content: bytes, name: str) -> httpx.Response:
    return httpx.post(f"{url}/adapters", files={"file": content}, data={"name": name}, timeout=60)


def predict(url: str, adapter: str) -> int:
    return httpx.post(f"{url}/predict?adapter={adapter}", content=PHOTO, headers=JPEG, timeout=60).status_code


def ready(url: str) -> dict[str, object]:
    answer = httpx.get(f"{url}/readyz", timeout=60)
    assert answer.status_code == 200
    document: dict[str, object] = answer.json()
    return document


def assert_serves(url: str, *names: str) -> None:
    """What does not need the store: none of it may wait for those who do."""
    for name in names:
        assert predict(url, name) == 200
        assert httpx.get(f"{url}/v2/models/{name}/ready", timeout=60).status_code == 200
    assert predict(url, "nobody") == 404
    for path in ("/adapters", "/tasks", "/metrics", "/livez"):
        assert httpx.get(f"{url}{path}", timeout=60).status_code == 200


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))


def test_a_held_lock(server: ServerProcess, weights: Weights, tmp_path: Path) -> None:
    url = server.url
    assert upload(url, weights.upload("cats"), "cats").status_code == 201
    assert predict(url, "cats") == 200
    pin = f"{url}/adapters/cats/pin"
    with (tmp_path / "store" / "lock").open("ab") as lock, ThreadPoolExecutor(AT_ONCE + 1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # More at once than may wait, for as long as each may wait: the threads of changes are all taken meanwhile.
        changes = [pool.submit(httpx.put, pin, timeout=60) for _ in range(AT_ONCE)]
        sent = pool.submit(upload, url, weights.upload("dogs"), "dogs")
        assert_serves(url, "default", "cats", "people")
        wait_until(lambda: ready(url)["status"] == "degraded")
        held = re.compile(r"another process has held the lock of the adapter store for ([0-9.]+) s")
        # By now it was asked several times, each of which waited a second; in any case, longer than one waits.
        wait_until(lambda: float(held.fullmatch(str(ready(url)["store"]))[1]) > 2 * TIMEOUT_S)  # type: ignore[index]
        assert metric(url, "mtlora_store_usable") == 0
        answers = [change.result() for change in (*changes, sent)]
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["type"] for answer in answers} == {STORE_TYPE}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    wait_until(lambda: ready(url) == {"status": "ready", "missing": []})
    assert httpx.put(pin, timeout=60).status_code == 200
    assert upload(url, weights.upload("dogs"), "dogs").status_code == 201
    assert metric(url, "mtlora_store_usable") == 1
    assert not list((tmp_path / "store" / "incoming").iterdir())


def test_a_deletion_whose_file_cannot_go_yet(server: ServerProcess, weights: Weights, tmp_path: Path) -> None:
    """The state says at once that the set is gone; its file goes when the lock can be had."""
    url = server.url
    upload(url, weights.upload("cats"), "cats")
    assert httpx.delete(f"{url}/adapters/cats", timeout=60).status_code == 204
    with (tmp_path / "store" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wait_until(lambda: any("cannot be removed yet" in line["message"] for line in server.logged()))
    wait_until(lambda: not list((tmp_path / "store" / "sets").rglob("*.safetensors")), 60)


def test_a_store_that_is_removed_and_comes_back(server: ServerProcess, weights: Weights, tmp_path: Path) -> None:
    url, store = server.url, tmp_path / "store"
    upload(url, weights.upload("cats"), "cats")
    assert predict(url, "cats") == 200
    store.rename(tmp_path / "away")
    wait_until(lambda: ready(url)["status"] == "degraded")
    assert "No such file or directory" in str(ready(url)["store"])
    for name in ("default", "cats"):
        assert predict(url, name) == 200
    refused = [
        upload(url, weights.upload("dogs"), "dogs"),
        httpx.delete(f"{url}/adapters/cats", timeout=60),
        httpx.put(f"{url}/adapters/cats/pin", timeout=60),
        httpx.get(f"{url}/adapters/unknown", timeout=60),
    ]
    assert [answer.status_code for answer in refused] == [503] * 4
    assert {answer.json()["type"] for answer in refused} == {STORE_TYPE}
    assert str(tmp_path) not in "".join(answer.text for answer in refused)
    assert not store.exists()
    (tmp_path / "away").rename(store)
    wait_until(lambda: ready(url) == {"status": "ready", "missing": []})
    assert upload(url, weights.upload("dogs"), "dogs").status_code == 201


def test_odd_entries(weights: Weights, tmp_path: Path) -> None:
    store, outside = tmp_path / "store", tmp_path / "outside"
    for folder in (store / "sets", store / "incoming" / "folder", outside):
        folder.mkdir(parents=True)
    (outside / "precious.safetensors").write_text("precious")
    (store / "sets" / "linked").symlink_to(outside)
    (store / "sets" / "file").write_text("no folder")
    (store / "sets" / "dangling").symlink_to(tmp_path / "nothing")
    (store / "sets" / "stateful" / "state.json").mkdir(parents=True)
    (store / "sets" / "waiting").mkdir()
    os.mkfifo(store / "sets" / "waiting" / "state.json")
    server = ServerProcess(weights, store, store_timeout_s=TIMEOUT_S)
    try:
        server.wait_ready()
        for name, status in {"linked": 409, "file": 409, "dangling": 409, "stateful": 503, "waiting": 503}.items():
            answer = upload(server.url, weights.upload("cats"), name)
            assert (answer.status_code, name in answer.json()["detail"]) == (status, True)
            assert httpx.get(f"{server.url}/adapters/{name}", timeout=60).status_code in {404, 503}
        assert upload(server.url, weights.upload("cats"), "cats").status_code == 201
        assert_serves(server.url, "default", "cats")
        (home,) = [path for path in (store / "sets").iterdir() if path.name == "cats"]
        (blob,) = home.glob("*.safetensors")
        blob.unlink()
        os.mkfifo(blob)
        assert httpx.get(f"{server.url}/adapters/cats/file", timeout=60).status_code == 503
        assert predict(server.url, "default") == 200
        assert [path.name for path in outside.iterdir()] == ["precious.safetensors"]
        told = [line["entry"] for line in server.logged() if "entry" in line]
        assert sorted(told) == ["dangling", "file", "folder", "linked", "stateful", "waiting"]
        assert ready(server.url) == {"status": "ready", "missing": []}
    finally:
        server.stop()
