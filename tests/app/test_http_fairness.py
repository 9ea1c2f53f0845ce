"""Nobody's flood is everybody's: admission, cold sets and turns, on a server whose engine the tests can stop."""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.errors import AdapterLoadError
from app.core.names import AdapterRef
from app.decoding.decoders import IsolatedDecoders
from app.engine.engine import Engine, Outcome
from app.engine.work_item import Item
from app.residency.loader import AdaptedSet, AdapterLoader
from app.scheduling.cost_model import Workload
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}
KEYS = {label: f"key-of-{label}" for label in ("greedy", "modest")}


class Gate:
    """Holds the engine before each batch until it is opened, and remembers for whom it ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.ran: list[str] = []
        plain, gate = Engine.run, self

        def run(engine: Engine, items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
            gate.ran += [item.flow.caller or item.flow.adapter for item in items]
            gate.entered.set()
            gate.open.wait(20)
            return plain(engine, items)

        monkeypatch.setattr(Engine, "run", run)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def predict(live: Live, query: str = "", key: str = "") -> httpx.Response:
    headers = {**JPEG, **({"X-API-Key": KEYS[key]} if key else {})}
    return httpx.post(f"{live.url}/predict?{query}", content=PHOTO, headers=headers, timeout=30)


def flood(live: Live, pool: ThreadPoolExecutor, count: int, *args: str) -> list["Future[httpx.Response]"]:
    """So many requests, admitted one after the other."""
    futures = []
    for _ in range(count):
        admitted = live.service.parts.pipeline.admitted
        futures.append(pool.submit(predict, live, *args))
        wait_until(lambda admitted=admitted: live.service.parts.pipeline.admitted > admitted)
    return futures


def statuses(futures: "list[Future[httpx.Response]]") -> list[int]:
    return [future.result().status_code for future in futures]


def test_a_full_queue_of_one_set_refuses_that_set_and_admits_another(
    weights: Weights, tmp_path: Path, gate: Gate
) -> None:
    settings = settings_for(weights, tmp_path / "store", max_queue_images=6, max_images=6)
    with live_app(settings) as live, ThreadPoolExecutor(12) as pool:
        assert live.client.post("/adapters/people/load").status_code == 200
        busy = flood(live, pool, 6)
        refused = predict(live)
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:mtlora:problem:queue-full")
        assert "of at most 6 images are waiting (MTLORA_MAX_QUEUE_IMAGES)" in refused.json()["detail"]
        rare = pool.submit(predict, live, "adapter=people")
        pushed_out = busy[-1].result()  # the newest of the busy set, told at once, not when the engine is free
        assert pushed_out.status_code == 429
        assert int(pushed_out.headers["retry-after"]) >= 1
        assert "hold most of it" in pushed_out.json()["detail"]
        wait_until(lambda: live.service.parts.worker.waiting == 5)
        gate.open.set()
        assert rare.result().status_code == 200
        assert statuses(busy[:-1]) == [200] * 5
        assert gate.ran.index("people") <= 2  # and it did not wait for those that came before it
        wait_until(lambda: live.service.parts.device_cache.leases() == 0)
        assert live.service.parts.pipeline.admitted == 0


def test_a_key_with_many_requests_does_not_keep_another_key_out(weights: Weights, tmp_path: Path, gate: Gate) -> None:
    keys = ",".join(f"{label}:{sha256(key.encode()).hexdigest()}:predict" for label, key in KEYS.items())
    settings = settings_for(weights, tmp_path / "store", max_queue_images=6, max_images=6, api_keys=keys)
    with live_app(settings) as live, ThreadPoolExecutor(12) as pool:
        greedy = flood(live, pool, 6, "", "greedy")
        assert predict(live, key="greedy").status_code == 429
        modest = pool.submit(predict, live, "", "modest")
        assert greedy[-1].result().status_code == 429
        wait_until(lambda: live.service.parts.worker.waiting == 5)
        gate.open.set()
        assert modest.result().status_code == 200
        assert gate.ran.index("modest") <= 2


@pytest.mark.parametrize("fails", [False, True], ids=["slow", "failing"])
def test_requests_for_cold_sets_do_not_keep_a_hot_set_out(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """More requests than fit, each for a set of its own whose load hangs; then some for a set that is there."""
    release = threading.Event()
    plain = AdapterLoader.load

    def load(loader: AdapterLoader, ref: AdapterRef) -> AdaptedSet:
        if ref.name.startswith("cold"):
            release.wait(20)
            if fails:
                raise AdapterLoadError(f"adapter set {ref} was made to fail")
        return plain(loader, ref)

    monkeypatch.setattr(AdapterLoader, "load", load)
    settings = settings_for(weights, tmp_path / "store", max_queue_images=8, max_images=8)
    with live_app(settings) as live, ThreadPoolExecutor(8) as pool:
        for number in range(8):
            files = {"file": weights.upload("cats")}
            assert live.client.post("/adapters", files=files, data={"name": f"cold{number}"}).status_code == 201
        cold = [pool.submit(predict, live, f"adapter=cold{number}") for number in range(8)]
        wait_until(lambda: sum(future.done() for future in cold) == 4)
        assert live.service.parts.pipeline.admitted == 4
        refused = next(future.result() for future in cold if future.done())
        assert refused.status_code == 429
        assert "wait for adapter sets that are being loaded" in refused.json()["detail"]
        assert [predict(live).status_code for _ in range(3)] == [200] * 3
        assert sum(future.done() for future in cold) == 4  # the others still wait for their sets
        release.set()
        assert sorted(set(statuses(cold))) == ([429, 503] if fails else [200, 429])


def test_a_turn_that_would_come_too_late_is_refused_at_once(weights: Weights, tmp_path: Path, gate: Gate) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live, ThreadPoolExecutor(12) as pool:
        gate.open.set()
        assert predict(live).status_code == 200
        costs: Any = live.service.parts.pipeline._costs
        (ref, tasks), (spec, _) = next(iter(costs._kept.items()))
        for _ in range(60):
            costs.measured(Workload(ref, spec, tasks), seconds=2.0)  # as if it were a slow machine
        gate.open.clear()
        running = flood(live, pool, 3)
        late = predict(live, "deadline_ms=4000")
        assert (late.status_code, late.json()["type"]) == (429, "urn:mtlora:problem:wait-too-long")
        assert int(late.headers["retry-after"]) >= 1
        assert "its deadline allows" in late.json()["detail"]
        metrics = live.client.get("/metrics").text
        assert 'mtlora_rejected_total{reason="queue_age"} 1.0' in metrics
        gate.open.set()
        assert statuses(running) == [200] * 3


def test_what_an_image_took_is_learnt_though_its_client_left(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a client that never waits would never be charged what its set costs."""
    entered, go_on, plain = threading.Event(), threading.Event(), Engine._run_group

    def run_group(engine: Engine, group: Sequence[Item]) -> Any:
        entered.set()
        go_on.wait(20)
        return plain(engine, group)

    with live_app(settings_for(weights, tmp_path / "store")) as live:
        monkeypatch.setattr(Engine, "_run_group", run_group)
        pipeline = live.service.parts.pipeline
        host, port = live.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}"
            client.sendall(head.encode() + b"\r\n\r\n" + PHOTO)
            assert entered.wait(20)
            assert not pipeline._costs.known
        wait_until(lambda: not pipeline.admitted)
        go_on.set()
        wait_until(lambda: pipeline._costs.known)


def test_a_flood_of_large_photos_does_not_delay_the_decoding_of_another_set_s(weights: Weights, tmp_path: Path) -> None:
    """Count-based: of the photos that waited for the one decoder, the rare one is decoded among the first."""
    large = encoded(picture(900, 700), "PNG")
    with live_app(settings_for(weights, tmp_path / "store")) as live, ThreadPoolExecutor(20) as pool:
        assert live.client.post("/adapters/people/load").status_code == 200
        decoders = live.service.parts.decoders
        assert isinstance(decoders, IsolatedDecoders)
        (decoder,) = decoders.pids
        os.kill(decoder, signal.SIGSTOP)
        done: list[str] = []

        def ask(name: str, photo: bytes) -> None:
            response = httpx.post(f"{live.url}/predict?adapter={name}", content=photo, headers=JPEG, timeout=30)
            done.append(f"{name} {response.status_code}")

        floods = [pool.submit(ask, "default", large) for _ in range(12)]
        wait_until(lambda: decoders.waiting == 11)
        rare = pool.submit(ask, "people", PHOTO)
        wait_until(lambda: decoders.waiting == 12)
        os.kill(decoder, signal.SIGCONT)
        for future in (*floods, rare):
            future.result()
        assert done.index("people 200") <= 2
        assert done.count("default 200") == 12
