"""Whatever is refused, its log line says who asked, and a change leaves exactly one line of audit."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.access.keys import Quota, Scope
from testing.key_files import add, key
from testing.raw_http import talk
from testing.serving import Live, Weights, encoded, live_app, metric, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}
LOOK = {"X-API-Key": "look"}
WRITE = {"X-API-Key": "write"}


@pytest.fixture(scope="module")
def guarded(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    path = tmp_path_factory.mktemp("refusals") / "keys.json"
    every = tuple(Scope)
    add(
        path,
        key("look", Scope.ADAPTERS_READ, namespace="eyes"),
        key("write", *every),
        key("full", *(set(every) - {Scope.METRICS}), namespace="full", quota=Quota(max_sets=0)),
        key("rare", *every, quota=Quota(requests_per_minute=1)),
        key("old", *every, expires="2020-01-01T00:00:00Z"),
    )
    with live_app(settings_for(weights, path.parent / "store", keys_file=path, max_adapter_bytes=4096)) as live:
        live.client.get("/tasks", headers={"X-API-Key": "rare"})  # its minute is used up
        yield live


@pytest.fixture
def logged(guarded: Live, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "app.requests")
    wait_until(lambda: not guarded.server.server_state.tasks)
    caplog.clear()
    return caplog


def lines(logged: pytest.LogCaptureFixture, logger: str, number: int = 1) -> list[dict[str, Any]]:
    """The lines of that logger, once there are so many."""
    wait_until(lambda: sum(record.name == logger for record in logged.records) >= number)
    return [vars(record) for record in logged.records if record.name == logger]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "key", "problem"),
    [
        ("GET", "/adapters", {}, 401, None, "unauthorized"),
        ("GET", "/adapters", {"X-API-Key": "nobody"}, 401, None, "unauthorized"),
        ("GET", "/adapters", {"X-API-Key": "old"}, 401, "old", "unauthorized"),
        ("GET", "/adapters", {"X-API-Key": "rare"}, 429, "rare", "quota"),
        ("GET", "/metrics", LOOK, 403, "look", "forbidden"),
        ("GET", "/adapters/none", LOOK, 404, "look", "adapter-not-found"),
        ("GET", "/adapters/default/file?revision=x", LOOK, 422, "look", None),
        ("GET", "/nowhere", LOOK, 404, None, "not-found"),
        ("PATCH", "/adapters", LOOK, 405, None, "method-not-allowed"),
        ("GET", "/adapters", {**LOOK, "Authorization": "Bearer write"}, 400, None, "bad-request"),
        ("GET", "/adapters", {**LOOK, "Host": "a b"}, 400, None, "bad-request"),
    ],
)
def test_the_log_says_who_was_refused(
    guarded: Live,
    logged: pytest.LogCaptureFixture,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    key: str | None,
    problem: str | None,
) -> None:
    assert guarded.client.request(method, path, headers=headers).status_code == status
    (line,) = lines(logged, "app.requests")
    assert (line["status"], line.get("key"), line["client"]) == (status, key, "127.0.0.1")
    assert line["problem"] == problem or (problem is None and line["problem"])


def test_so_does_the_line_of_what_is_no_request(guarded: Live, logged: pytest.LogCaptureFixture) -> None:
    assert b" 400 " in talk(guarded, b"GET\r\n\r\n")
    (line,) = lines(logged, "app.requests")
    assert (line["status"], line["client"], line["problem"]) == (400, "127.0.0.1", "bad-request")
    assert "not a request" in line["reason"]


def form(name: str, content: bytes = b"rubbish") -> dict[str, Any]:
    return {"data": {"name": name}, "files": {"file": content}}


@pytest.mark.parametrize(
    ("headers", "sent", "status", "key"),
    [
        ({}, form("a"), 401, None),
        ({"X-API-Key": "nobody"}, form("a"), 401, None),
        ({"X-API-Key": "old"}, form("a"), 401, "old"),
        (LOOK, form("a"), 403, "look"),
        ({"X-API-Key": "rare"}, form("a"), 429, "rare"),
        ({"X-API-Key": "full"}, form("a"), 429, "full"),
        (WRITE, form("a"), 422, "write"),
        (WRITE, form("A B"), 422, "write"),
        (WRITE, form("default"), 409, "write"),
        (WRITE, form("a", b"x" * 200_000), 413, "write"),
        (WRITE, {"content": b"x"}, 415, "write"),
        (WRITE, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "write"),
        ({**WRITE, "Authorization": "Bearer look"}, form("a"), 400, None),
        ({**WRITE, **{f"X-{i}": "a" for i in range(100)}}, form("a"), 431, None),
    ],
)
@pytest.mark.parametrize("path", ["/adapters", "/adapters/"])
def test_a_refused_upload_leaves_one_line_of_audit(
    guarded: Live,
    logged: pytest.LogCaptureFixture,
    path: str,
    headers: dict[str, str],
    sent: dict[str, Any],
    status: int,
    key: str | None,
) -> None:
    headers = {**headers, **sent.get("headers", {})}
    answer = guarded.client.post(path, **{**sent, "headers": headers})
    assert answer.status_code == status, answer.text
    lines(logged, "app.requests")
    (line,) = lines(logged, "mtlora.audit")
    assert (line["action"], line["outcome"], line["status"]) == ("upload", "refused", status)
    assert (line.get("key"), line["client"]) == (key, "127.0.0.1")
    assert line["problem"]


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("DELETE", "/adapters/cats", "delete"),
        ("DELETE", "/adapters/cats/", "delete"),
        ("PUT", "/adapters/cats/current", "activate"),
        ("PUT", "/adapters/cats/pin", "pin"),
        ("DELETE", "/adapters/cats/pin", "unpin"),
        ("POST", "/adapters/cats/load", "load"),
        ("POST", "/adapters/cats/unload", "unload"),
    ],
)
@pytest.mark.parametrize("headers", [{**WRITE, "Authorization": "Bearer look"}, LOOK, {}, WRITE])
def test_so_does_every_other_change(
    guarded: Live, logged: pytest.LogCaptureFixture, method: str, path: str, action: str, headers: dict[str, str]
) -> None:
    assert guarded.client.request(method, path, headers=headers).status_code in {400, 401, 403, 404}
    lines(logged, "app.requests")
    (line,) = lines(logged, "mtlora.audit")
    assert (line["action"], line["outcome"], line["adapter"]) == (action, "refused", "cats")
    assert line["client"] == "127.0.0.1"


def test_a_name_that_is_too_long_is_refused_and_told_too(guarded: Live, logged: pytest.LogCaptureFixture) -> None:
    assert guarded.client.delete(f"/adapters/{'a' * 100}", headers=WRITE).status_code == 422
    lines(logged, "app.requests")
    (line,) = lines(logged, "mtlora.audit")
    assert (line["status"], line["key"], len(line["adapter"])) == (422, "write", 80)


@pytest.mark.parametrize("path", ["/predict", "/predict/", "/v2/models/default/infer", "/v2/models/a/versions/1/infer"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (LOOK, 403),
        ({"X-API-Key": "rare"}, 429),
        ({**LOOK, "Authorization": "Bearer write"}, 400),
        ({**WRITE, "X-Deadline-Ms": "soon"}, 422),
    ],
)
def test_a_refused_prediction_counts_as_one(guarded: Live, path: str, headers: dict[str, str], status: int) -> None:
    def counted() -> tuple[float, float]:
        text = httpx.get(f"{guarded.url}/metrics", headers=WRITE).text
        series = (f'mtlora_requests_total{{code="{status}",format="none"}}', "mtlora_request_seconds_count")
        found = [[float(line.split()[-1]) for line in text.splitlines() if line.startswith(one)] for one in series]
        return sum(found[0]), sum(found[1])

    before = counted()
    assert httpx.post(guarded.url + path, content=PHOTO, headers={**JPEG, **headers}).status_code == status
    wait_until(lambda: counted() == (before[0] + 1, before[1] + 1), 5)


def test_probes_are_not_refused_work(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        live.service.drain()
        for path in ("/readyz", "/readyz/", "/v2/health/ready", "/v2/models/default/ready"):
            assert live.client.get(path).status_code == 503
        assert metric(live, 'mtlora_rejected_total{reason="not_ready"}') == 0
        assert live.client.post("/predict", content=PHOTO, headers=JPEG).status_code == 503
        assert metric(live, 'mtlora_rejected_total{reason="not_ready"}') == 1
