"""Whole servers on one bucket (moto, in a process of its own): changes are shared, outages are outlived, kills too.

moto's conditional writes are not atomic, so no two writers change one set at the same time here.
"""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from testing.serving import ServerProcess, Weights, encoded, free_port, picture, wait_until

pytest.importorskip("moto.server", reason="a bucket is tried with moto: pip install 'moto[server]'")
pytest.importorskip("obstore", reason="buckets need the extra `bucket`")

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}
BUCKET = "sets"
PLACE = f"s3://{BUCKET}/prod"
TIMEOUT_S = 3
MOTO = """
import sys, time
from moto.server import ThreadedMotoServer
ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False).start()
time.sleep(600)
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", MOTO, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    given = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def made() -> bool:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=5).close()
        except OSError:
            return False
        return True

    try:
        wait_until(made, 60)
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def servers(bucket: subprocess.Popen[bytes], weights: Weights, tmp_path: Path) -> Iterator[list[ServerProcess]]:
    started = [start(weights, tmp_path, name) for name in ("first", "second")]
    try:
        for server in started:
            server.wait_ready()
        yield started
    finally:
        if bucket.poll() is None:
            bucket.send_signal(signal.SIGCONT)
        for server in started:
            server.stop()


def start(weights: Weights, tmp_path: Path, name: str) -> ServerProcess:
    cache = tmp_path / f"cache-{name}"
    flags = {"store_cache": cache, "store_timeout_s": TIMEOUT_S, "grace_s": 5}
    return ServerProcess(weights, tmp_path / name, bucket=PLACE, **flags)


def upload(url: str, content: bytes, name: str) -> httpx.Response:
    return httpx.post(f"{url}/adapters", files={"file": content}, data={"name": name}, timeout=60)


def predict(url: str, adapter: str) -> int:
    return httpx.post(f"{url}/predict?adapter={adapter}", content=PHOTO, headers=JPEG, timeout=60).status_code


def test_changes_are_shared(servers: list[ServerProcess], weights: Weights) -> None:
    first, second = (server.url for server in servers)
    assert upload(first, weights.upload("cats"), "pets").status_code == 201
    assert predict(second, "pets") == 200
    assert upload(second, weights.upload("dogs"), "pets").status_code == 201
    wait_until(lambda: httpx.get(f"{first}/adapters/pets").json()["current"] == 2)
    back = httpx.get(f"{first}/adapters/pets/file?revision=2", timeout=60)
    assert back.content == weights.upload("dogs")
    assert httpx.delete(f"{first}/adapters/pets", timeout=60).status_code == 204
    wait_until(lambda: predict(second, "pets") == 404)


def test_a_bucket_that_hangs(servers: list[ServerProcess], weights: Weights, bucket: subprocess.Popen[bytes]) -> None:
    """Sets that are known are served, changes are refused in time, readiness says why; then all goes on."""
    first, second = (server.url for server in servers)
    assert upload(first, weights.upload("cats"), "pets").status_code == 201
    wait_until(lambda: "pets" in str(httpx.get(f"{second}/adapters").json()))  # it is known from now on
    assert predict(second, "pets") == 200
    bucket.send_signal(signal.SIGSTOP)
    refused = upload(first, weights.upload("dogs"), "other")
    assert refused.status_code == 503
    assert refused.json()["type"].endswith("store-unavailable")
    wait_until(lambda: httpx.get(f"{second}/readyz").json()["status"] == "degraded", 60)
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: predict(second, "pets"), range(40))) == {200}
    assert httpx.get(f"{second}/adapters").status_code == 200
    bucket.send_signal(signal.SIGCONT)
    wait_until(lambda: httpx.get(f"{second}/readyz").json()["status"] == "ready", 60)
    assert upload(first, weights.upload("dogs"), "other").status_code == 201
    wait_until(lambda: predict(second, "other") == 200)


def test_nothing_acknowledged_is_lost_by_a_kill(servers: list[ServerProcess], weights: Weights, tmp_path: Path) -> None:
    first, second = servers
    acknowledged: list[str] = []

    def push(number: int) -> None:
        name, content = f"set-{number}", weights.upload("cats" if number % 2 else "dogs")
        try:
            if upload(first.url, content, name).status_code == 201:
                acknowledged.append(name)
        except httpx.TransportError:
            pass  # not acknowledged

    with ThreadPoolExecutor(3) as threads:
        pushed = [threads.submit(push, number) for number in range(30)]
        wait_until(lambda: len(acknowledged) >= 6, 120)
        os.kill(first.process.pid, signal.SIGKILL)
        for one in pushed:
            one.result()
    first.process.wait(10)
    assert 6 <= len(acknowledged) < 30
    again = start(weights, tmp_path, "again")
    try:
        again.wait_ready()
        for url in (second.url, again.url):
            for name in acknowledged:
                content = weights.upload("cats" if int(name.rpartition("-")[2]) % 2 else "dogs")
                assert httpx.get(f"{url}/adapters/{name}/file", timeout=60).content == content
        assert upload(again.url, weights.upload("dogs"), "after").status_code == 201
    finally:
        again.stop()
