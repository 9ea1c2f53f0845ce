"""A store that hangs: what is known and in memory answers, what is not is refused in time, and no loader waits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.core.names import AdapterRef
from app.registry.catalog import Catalog
from app.store.posix_blob_store import PosixBlobStore
from testing.requests import predict, upload
from testing.serving import Weights, live_app, settings_for, wait_until

TIMEOUT_S = 0.5


def test_a_hanging_store(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, hangs = threading.Event(), threading.Event()
    file, generation, read = Catalog.file, PosixBlobStore.generation, PosixBlobStore.read

    def wait() -> None:
        if hangs.is_set():
            go.wait(120)

    def slow_file(catalog: Catalog, ref: AdapterRef) -> Path:
        wait()
        return file(catalog, ref)

    def slow_generation(blobs: PosixBlobStore) -> bytes:
        wait()
        return generation(blobs)

    def slow_read(blobs: PosixBlobStore, name: str) -> bytes:
        wait()
        return read(blobs, name)

    monkeypatch.setattr(Catalog, "file", slow_file)
    monkeypatch.setattr(PosixBlobStore, "generation", slow_generation)
    monkeypatch.setattr(PosixBlobStore, "read", slow_read)
    settings = settings_for(weights, tmp_path / "store", store_timeout_s=TIMEOUT_S, loader_threads=1)
    with live_app(settings) as live, ThreadPoolExecutor(20) as pool:
        for name in ("cats", "dogs"):
            upload(live.client, weights.upload(name))
            live.client.post(f"/adapters/{name}/unload")
        assert predict(live.client, "cats").status_code == 200
        hangs.set()
        loads = [pool.submit(predict, live.client, "dogs") for _ in range(4)]  # known, and in no memory
        others = [pool.submit(predict, live.client, f"unknown-{i}") for i in range(8)]
        deletes = [pool.submit(live.client.delete, "/adapters/cats") for _ in range(4)]
        for name in ("default", "cats", "people"):  # people is loaded only now, beside those that wait
            assert predict(live.client, name).status_code == 200
        for path in ("/adapters", "/metrics"):
            assert live.client.get(path).status_code == 200
        wait_until(lambda: live.client.get("/readyz").json()["status"] == "degraded")
        assert "has not answered for" in live.client.get("/readyz").json()["store"]
        assert {answer.result().status_code for answer in (*loads, *others, *deletes)} == {503}
        assert predict(live.client, "cats").status_code == 200
        go.set()
        wait_until(lambda: live.client.get("/readyz").json() == {"status": "ready", "missing": []})
        wait_until(lambda: predict(live.client, "unknown-1").status_code == 404)
