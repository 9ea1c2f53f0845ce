"""Bounds, faults and ends: each limit made to be hit, on a server in this process whose engine the tests can stop."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import app.http.bounded_h11
from app.composition.service import Service
from app.core.errors import InferenceError
from app.engine.engine import Engine, Outcome
from app.engine.work_item import Item
from testing.photos import costly
from testing.serving import Live, Weights, encoded, live_app, metric, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}


class Gate:
    """Holds the engine before each batch until it is opened, and remembers what ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []
        plain = Engine.run
        gate = self

        def run(engine: Engine, items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
            gate.batches.append(len(items))
            gate.entered.set()
            gate.open.wait(20)
            return plain(engine, items)

        monkeypatch.setattr(Engine, "run", run)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


@contextmanager
def server(weights: Weights, tmp_path: Path, **changes: Any) -> Iterator[Live]:
    with live_app(settings_for(weights, tmp_path / "store", **changes)) as live:
        yield live


def predict(live: Live, query: str = "", **headers: str) -> httpx.Response:
    return httpx.post(f"{live.url}/predict?{query}", content=PHOTO, headers={**JPEG, **headers}, timeout=30)


def test_full_queue_is_429_and_tells_when_to_return(weights: Weights, tmp_path: Path, gate: Gate) -> None:
    with server(weights, tmp_path, max_queue_images=2, max_images=2) as live, ThreadPoolExecutor(4) as pool:
        running = [pool.submit(predict, live) for _ in range(2)]
        wait_until(lambda: live.service.parts.pipeline.admitted == 2)
        refused = predict(live)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["type"] == "urn:mtlora:problem:queue-full"
        assert metric(live, 'mtlora_rejected_total{reason="queue_full"}') == 1
        assert metric(live, "mtlora_queue_images") == 2
        assert metric(live, "mtlora_queue_limit_images") == 2
        gate.open.set()
        assert [f.result().status_code for f in running] == [200, 200]
        assert predict(live).status_code == 200


def test_deadline_is_504_and_the_work_is_dropped(weights: Weights, tmp_path: Path, gate: Gate) -> None:
    with server(weights, tmp_path) as live, ThreadPoolExecutor(2) as pool:
        blocking = pool.submit(predict, live)
        wait_until(gate.entered.is_set)
        late = predict(live, "deadline_ms=150")
        assert (late.status_code, late.json()["title"]) == (504, "Deadline")
        assert predict(live, **{"X-Deadline-Ms": "150"}).status_code == 504
        gate.open.set()
        assert blocking.result().status_code == 200
        assert predict(live).status_code == 200
        assert gate.batches == [1, 1]  # neither late image reached the model
        assert live.service.parts.pipeline.admitted == 0


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_ended_their_side_is_waited_for(
    weights: Weights, tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Signs of life tell them from those who left. To HTTP/1.0 none is sent: it would be taken for the answer."""
    monkeypatch.setattr(app.http.bounded_h11, "PROBES_S", (0.01,))
    with server(weights, tmp_path) as live:
        host, port = live.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 30) as sock:
            head = (
                f"POST /predict HTTP/{version}\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}"
            )
            sock.sendall(f"{head}\r\n\r\n".encode() + PHOTO)
            sock.shutdown(socket.SHUT_WR)
            wait_until(gate.entered.is_set)
            said = b""
            while version == "1.1" and said.count(b"HTTP/1.1 100 Continue\r\n\r\n") < 3:
                said += sock.recv(65536)
            gate.open.set()
            said += b"".join(iter(lambda: sock.recv(65536), b""))
        assert said.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"").startswith(b"HTTP/1.1 200")
        assert (b" 100 " in said) == (version == "1.1")
        assert metric(live, 'mtlora_rejected_total{reason="client_gone"}') == 0


def test_work_of_a_client_who_left_is_dropped(weights: Weights, tmp_path: Path, gate: Gate) -> None:
    with server(weights, tmp_path) as live, ThreadPoolExecutor(2) as pool:
        blocking = pool.submit(predict, live)
        wait_until(gate.entered.is_set)
        host, port = live.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as leaving:
            head = (
                f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
            )
            leaving.sendall(head.encode() + PHOTO)
            wait_until(lambda: live.service.parts.pipeline.admitted == 2)
        wait_until(lambda: live.service.parts.pipeline.admitted == 1)
        gate.open.set()
        assert blocking.result().status_code == 200
        assert predict(live).status_code == 200
        assert gate.batches == [1, 1]
        assert metric(live, 'mtlora_rejected_total{reason="client_gone"}') == 1
        wait_until(lambda: live.service.parts.device_cache.leases() == 0)


def test_a_failing_item_is_500_and_its_neighbours_are_answered(
    weights: Weights, tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_group = Engine._run_group

    def failing(engine: Engine, group: Any) -> Any:
        if group[0].tasks == ("saliency",):
            return [InferenceError("made to fail") for _ in group]
        return run_group(engine, group)

    monkeypatch.setattr(Engine, "_run_group", failing)
    with server(weights, tmp_path, max_batch_images=8) as live, ThreadPoolExecutor(8) as pool:
        first = pool.submit(predict, live)
        wait_until(gate.entered.is_set)
        queries = ["tasks=semseg", "tasks=saliency", "tasks=normals", "adapter=people"]
        futures = [pool.submit(predict, live, q) for q in queries]
        wait_until(lambda: live.service.parts.worker.waiting == 4)
        gate.open.set()
        assert [f.result().status_code for f in (first, *futures)] == [200, 200, 500, 200, 200]
        assert gate.batches == [1, 4]
        assert futures[0].result().json()["batch"] == {"size": 4, "adapters": 2}


def test_bodies_have_a_largest_size(weights: Weights, tmp_path: Path) -> None:
    with server(weights, tmp_path, max_body_bytes=2000, max_adapter_bytes=2000) as live:
        announced = httpx.post(f"{live.url}/predict", content=b"x" * 3000, headers=JPEG)
        chunked = httpx.post(f"{live.url}/predict", content=iter([b"x" * 1500] * 3), headers=JPEG)
        adapter = httpx.post(f"{live.url}/adapters", files={"file": weights.upload("cats")}, data={"name": "big"})
        assert [r.status_code for r in (announced, chunked, adapter)] == [413, 413, 413]
        assert list((tmp_path / "store" / "incoming").iterdir()) == []


def test_bodies_together_have_a_largest_size(weights: Weights, tmp_path: Path, gate: Gate) -> None:
    limits = {"max_body_bytes": len(PHOTO) + 50, "max_inflight_body_bytes": len(PHOTO) + 100}
    with server(weights, tmp_path, **limits) as live, ThreadPoolExecutor(1) as pool:
        running = pool.submit(predict, live)
        wait_until(gate.entered.is_set)
        assert live.service.parts.bodies.used == len(PHOTO)
        announced = predict(live)
        chunked = httpx.post(f"{live.url}/predict", content=iter([PHOTO[:90], PHOTO[90:]]), headers=JPEG)
        for refused in (announced, chunked):
            assert (refused.status_code, refused.json()["type"]) == (429, "urn:mtlora:problem:body-memory")
            assert int(refused.headers["retry-after"]) >= 1
        gate.open.set()
        assert running.result().status_code == 200
        assert live.service.parts.bodies.used == 0
        assert predict(live).status_code == 200
        assert metric(live, 'mtlora_rejected_total{reason="body_memory"}') == 2


def test_bodies_are_not_packed(weights: Weights, tmp_path: Path) -> None:
    with server(weights, tmp_path) as live:
        packed = predict(live, **{"Content-Encoding": "gzip"})
        assert (packed.status_code, predict(live, **{"Content-Encoding": "identity"}).status_code) == (415, 200)
        assert "Content-Encoding 'gzip'" in packed.json()["detail"]


def test_photos_have_a_largest_size_checked_before_decoding(weights: Weights, tmp_path: Path) -> None:
    with server(weights, tmp_path, max_image_pixels=2399) as live:
        response = predict(live)
        assert response.status_code == 413
        assert "60 x 40" in response.json()["detail"]


def test_slow_bodies_are_408(weights: Weights, tmp_path: Path) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
    with server(weights, tmp_path, body_timeout_s=0.3) as live:
        host, port = live.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 30) as sock:
            sock.sendall(head.encode() + PHOTO[:100])  # and the rest never
            assert sock.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_full_store_is_507_and_nothing_changes(weights: Weights, tmp_path: Path) -> None:
    size = len(weights.upload("cats"))
    with server(weights, tmp_path, store_max_bytes=size + 10) as live:
        files = [{"file": weights.upload(name)} for name in ("cats", "dogs")]
        answers = [httpx.post(f"{live.url}/adapters", files=f, data={"name": "full"}) for f in files]
        assert [a.status_code for a in answers] == [201, 507]
        assert len(live.client.get("/adapters/full").json()["revisions"]) == 1


def test_sets_beyond_the_memory_budget_are_refused_at_the_door(weights: Weights, tmp_path: Path) -> None:
    with server(weights, tmp_path, max_model_px=32) as live:
        response = httpx.post(f"{live.url}/adapters", files={"file": weights.upload("cats")})
        assert response.status_code == 422
        assert "image_size" in response.json()["errors"][0]["detail"]


def test_starting_and_draining_are_503(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Event()
    plain = Service._start

    async def late_start(service: Service) -> None:
        while not begin.is_set():
            await asyncio.sleep(0.01)
        await plain(service)

    monkeypatch.setattr(Service, "_start", late_start)
    with live_app(settings_for(weights, tmp_path / "store"), ready=False) as live:
        assert live.client.get("/livez").status_code == 200
        assert live.client.get("/metrics").status_code == 200
        for response in (live.client.get("/readyz"), predict(live), live.client.get("/adapters")):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        begin.set()
        wait_until(lambda: live.client.get("/readyz").status_code == 200)
        live.service.drain()
        for response in (live.client.get("/readyz"), predict(live), live.client.delete("/adapters/x")):
            assert response.status_code == 503
        assert live.client.get("/adapters").status_code == 200


def test_running_requests_are_finished_when_the_server_stops(weights: Weights, tmp_path: Path, gate: Gate) -> None:
    with ThreadPoolExecutor(1) as pool, server(weights, tmp_path) as live:
        running = pool.submit(predict, live)
        wait_until(gate.entered.is_set)
        live.server.should_exit = True
        wait_until(lambda: not any(listening.is_serving() for listening in live.server.servers))
        gate.open.set()
        assert running.result().status_code == 200


def test_a_set_whose_file_is_damaged_is_503_and_remembered(weights: Weights, tmp_path: Path) -> None:
    with server(weights, tmp_path, load_failure_ttl_s=60) as live:
        live.client.post("/adapters", files={"file": weights.upload("cats")}, data={"name": "damaged"})
        live.client.post("/adapters/damaged/unload")
        (path,) = (tmp_path / "store" / "sets" / "damaged").glob("*.safetensors")
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
        answers = [predict(live, "adapter=damaged") for _ in range(3)]
        assert {a.status_code for a in answers} == {503}
        assert metric(live, 'mtlora_adapter_loads_total{result="error",tier="host"}') == 1
        assert predict(live).status_code == 200


def test_memory_budget_evicts_the_least_recently_used(weights: Weights, tmp_path: Path) -> None:
    with server(weights, tmp_path, form="merged") as live:
        for name in ("cats", "dogs", "birds"):
            live.client.post("/adapters", files={"file": weights.upload(name)})
        predict(live, "adapter=cats")
        device_cache = live.service.parts.device_cache
        default, cats = (device_cache.cost(ref) for ref in device_cache.resident())
    with server(weights, tmp_path, device_bytes=default + 2 * cats, form="merged") as live:
        colds = [
            predict(live, f"adapter={n}").headers["x-adapter-cold"]
            for n in ("cats", "dogs", "cats", "birds", "cats", "dogs")
        ]
        assert colds == ["1", "1", "0", "1", "0", "1"]
        assert metric(live, 'mtlora_adapter_evictions_total{reason="room",tier="device"}') == 2
        assert metric(live, 'mtlora_adapters{tier="device"}') == 3
        assert metric(live, 'mtlora_adapter_bytes{tier="device"}') == default + 2 * cats
        assert live.client.put("/adapters/cats/pin").status_code == 409  # no room for a set as large as default left


def test_uploads_do_not_hold_up_answers(weights: Weights, tmp_path: Path) -> None:
    with server(weights, tmp_path) as live, ThreadPoolExecutor(2) as pool:
        begun, finish = threading.Event(), threading.Event()

        def trickle() -> Iterator[bytes]:
            boundary = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
            content = weights.upload("cats")
            yield boundary + content[:1000]
            begun.set()
            finish.wait(10)
            yield content[1000:] + b"\r\n--b--\r\n"

        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        upload = pool.submit(httpx.post, f"{live.url}/adapters", content=trickle(), headers=headers, timeout=30)
        wait_until(begun.is_set)
        assert predict(live).status_code == 200
        finish.set()
        assert upload.result().status_code == 201


def test_photos_that_cost_more_than_their_size_are_refused_and_others_go_on(weights: Weights, tmp_path: Path) -> None:
    narrow = encoded(picture(1, 3000), "PNG")  # counts as 64 times as many pixels: that is what the model's side is
    with server(weights, tmp_path, decode_seconds=0.02, max_image_pixels=270_000) as live:
        found = httpx.post(f"{live.url}/predict", content=costly(side=480), headers=JPEG, timeout=30)
        assert (found.status_code, found.json()["type"]) == (422, "urn:mtlora:problem:image-too-costly")
        assert "more time or memory" in found.json()["detail"]
        assert httpx.post(f"{live.url}/predict", content=narrow, headers=JPEG, timeout=30).status_code == 200
    with server(weights, tmp_path, max_image_pixels=190_000) as live:
        found = httpx.post(f"{live.url}/predict", content=narrow, headers=JPEG, timeout=30)
        assert (found.status_code, found.json()["type"]) == (422, "urn:mtlora:problem:image-too-costly")
        assert "as much work as one of 192000" in found.json()["detail"]
