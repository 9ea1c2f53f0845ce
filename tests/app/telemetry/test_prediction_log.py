"""One line per prediction, with all that is needed to explain its time; and the same times in its headers."""

import json
import logging
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.telemetry.logs import JsonFormatter
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
STAGES = {"decode", "queue", "load", "forward", "encode"}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """The JSON lines of requests, growing as they are written."""
    written: list[dict[str, Any]] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(json.loads(JsonFormatter().format(record)))

    handler, logger = Collect(), logging.getLogger("app.requests")
    caplog.set_level(logging.INFO, "app.requests")
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)


def predict(live: Live, query: str = "", **headers: str) -> httpx.Response:
    sent = {"Content-Type": "image/jpeg", **headers}
    return httpx.post(f"{live.url}/predict?{query}", content=PHOTO, headers=sent, timeout=60)


def test_one_line_says_who_what_and_how_long(weights: Weights, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    keys = f"camera:{sha256(b'secret').hexdigest()}:predict"
    with live_app(settings_for(weights, tmp_path / "store", api_keys=keys)) as live:
        lines.clear()
        response = predict(live, "adapter=people&tasks=saliency", **{"X-API-Key": "secret", "X-Request-ID": "abc"})
        assert response.status_code == 200
        wait_until(lambda: len(lines) == 1)
    (line,) = lines
    expected = {
        "level": "info", "request_id": "abc", "key": "camera", "adapter": "people", "revision": 1, "tasks": "saliency",
        "images": 1, "batch": 1, "batch_adapters": 1, "cold": True, "status": 200, "format": "json",
    }  # fmt: skip
    assert {name: line.get(name) for name in expected} == expected
    assert line["stages_ms"].keys() == STAGES
    assert line["stages_ms"]["load"] > 0
    assert sum(line["stages_ms"].values()) <= line["total_ms"] + 1  # stages follow one another
    timing = {part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")}
    assert timing == STAGES | {"total"}
    assert response.headers["x-adapter-revision"] == "people@1"
    assert response.headers["x-adapter-cold"] == "1"
    assert response.headers["x-request-id"] == "abc"


def test_a_refused_prediction_has_its_line_too(weights: Weights, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        lines.clear()
        assert predict(live, "adapter=nobody").status_code == 404
        assert predict(live, "tasks=edge").status_code == 422
        wait_until(lambda: len(lines) == 2)
    assert [line["status"] for line in lines] == [404, 422]
    assert lines[1]["adapter"] == "default"
    assert all(line["format"] == "none" for line in lines)
