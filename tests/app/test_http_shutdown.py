"""What is still under way when the grace of a shutdown ends: told so in the API's own words, and no bug in the log."""

import asyncio
import base64
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.engine.engine import Engine, Outcome
from app.engine.work_item import Item
from app.http.pieces import PiecesResponse
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, the engine does not come back once there are requests."""
    opened, plain = threading.Event(), Engine.run

    def run(engine: Engine, items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
        opened.wait(60)
        return plain(engine, items)

    monkeypatch.setattr(Engine, "run", run)
    yield opened
    opened.set()


@contextmanager
def ending(weights: Weights, tmp_path: Path, opened: threading.Event) -> Iterator[Live]:
    with live_app(settings_for(weights, tmp_path / "store", grace_s=1, log_level="info")) as live:
        try:
            yield live
        finally:
            opened.set()


def end(live: Live) -> None:
    """As a signal does."""
    live.service.drain()
    live.server.should_exit = True


def infer_body() -> dict[str, Any]:
    one = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(PHOTO).decode()]}
    return {"inputs": [one]}


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


def test_requests_that_outlast_the_grace_are_503(
    weights: Weights, tmp_path: Path, opened: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ending(weights, tmp_path, opened) as live, ThreadPoolExecutor(3) as pool:

        def ask(path: str, **body: Any) -> "Future[httpx.Response]":
            return pool.submit(httpx.post, f"{live.url}{path}", timeout=60, **body)

        plain = [ask("/predict", content=PHOTO, headers=JPEG) for _ in range(2)]
        other = ask("/v2/models/default/infer", json=infer_body())
        wait_until(lambda: live.service.parts.pipeline.admitted == 3)
        end(live)
        answers = [one.result() for one in plain]
        assert [a.status_code for a in answers] == [503, 503], answers[0].text
        for answer in answers:
            problem = answer.json()
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) >= 1
            assert problem["type"] == "urn:mtlora:problem:not-ready"
            assert "the server is shutting down" in problem["detail"]
            assert problem["request_id"] == answer.headers["x-request-id"]
        tensors = other.result()
        assert (tensors.status_code, int(tensors.headers["retry-after"]) >= 1) == (503, True)
        assert list(tensors.json()) == ["error"]
        assert "the server is shutting down" in tensors.json()["error"]
    assert errors_in(caplog) == []
    told = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    assert [line["problem"] for line in told if line["status"] == 503] == ["not-ready"] * 3


def test_an_answer_that_nobody_takes_is_cut_off_without_a_trace(
    weights: Weights,
    tmp_path: Path,
    opened: threading.Event,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The head of an answer is out, so nothing else can be said."""
    caplog.set_level(logging.INFO)
    opened.set()
    begun = threading.Event()

    async def stall(_response: PiecesResponse, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        begun.set()
        await asyncio.sleep(600)

    monkeypatch.setattr(PiecesResponse, "__call__", stall)
    with ending(weights, tmp_path, opened) as live, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{live.url}/predict", content=PHOTO, headers=JPEG, timeout=60)
        assert begun.wait(30)
        end(live)
        with pytest.raises(httpx.RemoteProtocolError):
            answer.result()
    assert errors_in(caplog) == []
    assert [vars(r)["cut_off"] for r in caplog.records if r.getMessage() == "request" and hasattr(r, "cut_off")] == [
        True
    ]
