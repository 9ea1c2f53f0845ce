"""Behind a proxy that shows the server under a path: links, schema, log lines, audit."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing.serving import Live, Weights, live_app, settings_for

PREFIX = {"X-Forwarded-Prefix": "/vision"}


@pytest.fixture(scope="module")
def under_vision(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_app(settings_for(weights, tmp_path_factory.mktemp("root") / "s", root_path="/vision")) as live:
        yield live


def upload(client: httpx.Client, weights: Weights, path: str, **more: Any) -> httpx.Response:
    return client.post(path, files={"file": weights.upload("cats")}, data={"name": "prefixed"}, **more)


def test_location_and_servers_have_the_prefix_of_a_trusted_proxy(client: httpx.Client, weights: Weights) -> None:
    answer = upload(client, weights, "/adapters", headers=PREFIX)
    assert answer.headers["location"] == "/vision/adapters/prefixed"
    assert upload(client, weights, "/adapters").headers["location"] == "/adapters/prefixed"
    assert client.get("/openapi.json", headers=PREFIX).json()["servers"] == [{"url": "/vision"}]
    assert "servers" not in client.get("/openapi.json").json()
    client.delete("/adapters/prefixed")


def test_the_root_path_is_everywhere_whether_the_proxy_takes_it_off_or_not(
    under_vision: Live, weights: Weights
) -> None:
    client = under_vision.client
    for before in ("", "/vision"):
        assert client.get(f"{before}/openapi.json").json()["servers"] == [{"url": "/vision"}]
        location = upload(client, weights, f"{before}/adapters/").headers["location"]
        assert location == "/vision/adapters/prefixed"
        assert client.get(location).json()["name"] == "prefixed"
        assert client.get(f"{before}/v2/nowhere").json()["error"].startswith("Not Found")
        assert client.head(f"{before}/").status_code == 200
        assert client.get(f"{before}/static/js/main.js").status_code == 200
    bare, page = client.get("/vision"), client.get("/vision/")
    assert bare.status_code == 200  # and no redirect
    assert bare.text == page.text
    assert '<base href="/vision/">' in bare.text  # its files are not beside /vision
    assert "base-uri 'self'" in bare.headers["content-security-policy"]
    assert "<base" not in client.get("/docs").text  # whose links to itself would lead to the playground
    assert client.get("/visionary").status_code == 404


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.0/8"])
def test_log_and_audit_have_the_clients_address(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture, trusted: str
) -> None:
    audit = tmp_path / "audit.jsonl"
    settings = settings_for(weights, tmp_path / "s", forwarded_allow_ips=trusted, audit_log=audit)
    said = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9", **PREFIX}
    with caplog.at_level(logging.INFO, "app.requests"), live_app(settings) as live:
        location = upload(live.client, weights, "/adapters", headers=said).headers["location"]
    line = next(record for record in caplog.records if getattr(record, "path", "") == "/adapters")
    seen = {"client": vars(line)["client"], "proxy": vars(line).get("proxy")}
    if trusted == "127.0.0.1":
        assert seen == {"client": "203.0.113.9", "proxy": "127.0.0.1"}
        assert '"client": "203.0.113.9"' in audit.read_text()
        assert location == "/vision/adapters/prefixed"
    else:
        assert seen == {"client": "127.0.0.1", "proxy": None}
        assert "203.0.113.9" not in audit.read_text()
        assert location == "/adapters/prefixed"
