"""The examples of deploy/proxy, run by the real programs in front of a real server."""

import logging
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.startup.settings import MIB, Settings
from testing.serving import Live, Weights, encoded, free_port, live_app, picture, settings_for, wait_until
from tests.deploy.tools import DEPLOY, needing

PROXY = DEPLOY / "proxy"
PHOTO = encoded(picture(), "JPEG")
CLIENT = "127.0.0.2"  # not one that the server takes for a proxy
BIG = PHOTO + bytes(15 * MIB)  # what comes behind a photo is ignored
COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "nginx.conf": lambda path: ["nginx", "-p", str(path.parent), "-c", str(path), "-g", "daemon off;"],
    "Caddyfile": lambda path: ["caddy", "run", "--adapter", "caddyfile", "--config", str(path)],
    "haproxy.cfg": lambda path: ["haproxy", "-db", "-f", str(path)],
}
IN_FRONT = [
    pytest.param("nginx.conf", marks=needing("nginx")),
    pytest.param("Caddyfile", marks=needing("caddy")),
    pytest.param("haproxy.cfg", marks=needing("haproxy")),
]


@pytest.fixture(scope="module")
def server(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_app(settings_for(weights, tmp_path_factory.mktemp("behind") / "s")) as live:
        yield live


@contextmanager
def running(name: str, folder: Path, server: Live) -> Iterator[str]:
    """The example on ports of ours; where it shows the server."""
    port = free_port()
    text = (PROXY / name).read_text().replace("127.0.0.1:8000", server.url.removeprefix("http://"))
    text, changed = re.subn(r"(?<=[ :])8080\b", str(port) if name != "nginx.conf" else f"127.0.0.1:{port}", text)
    assert changed == 1
    config = folder / name
    config.write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(COMMANDS[name](config), stdout=log, stderr=log, cwd=folder)
    try:
        wait_until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/vision/readyz").status_code == 200
    except httpx.TransportError:
        return False


def pieces(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), 65536):
        yield content[at : at + 65536]


@pytest.mark.parametrize("name", IN_FRONT)
def test_a_proxy_shows_the_server_under_its_path(
    name: str, server: Live, weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Prefix": "/evil"}
    with (
        caplog.at_level(logging.INFO, "app.requests"),
        running(name, tmp_path, server) as url,
        httpx.Client(
            base_url=url, headers=hostile, timeout=60, transport=httpx.HTTPTransport(local_address=CLIENT)
        ) as client,
    ):
        page = client.get("/vision", follow_redirects=True)
        assert page.status_code == 200 and page.url.path == "/vision/"
        linked = re.findall(r'(?:src|href)="([^"#]+)"', page.text.replace('<base href="/vision/">', ""))
        assert [path for path in linked if client.get(page.url.join(path)).status_code != 200] == []
        assert client.get("/vision/docs").status_code == 200
        assert client.get("/vision/openapi.json").json()["servers"] == [{"url": "/vision"}]
        assert client.head("/vision/livez").status_code == 200

        form = {"files": {"file": weights.upload("cats")}, "data": {"name": "proxied"}}
        uploaded = client.post("/vision/adapters", **form)  # type: ignore[arg-type]
        assert uploaded.headers["location"] == "/vision/adapters/proxied"
        assert client.get(uploaded.headers["location"]).json()["name"] == "proxied"
        client.delete("/vision/adapters/proxied")

        as_jpeg = {"Content-Type": "image/jpeg"}
        for body in (PHOTO, BIG, pieces(BIG)):  # the last in chunks, of a length that nobody knows before
            assert client.post("/vision/predict?format=npz", content=body, headers=as_jpeg).status_code == 200
        too_large = client.post("/vision/predict", content=bytes(21 * MIB), headers=as_jpeg)
        assert too_large.status_code == 413 and too_large.json()["type"].endswith(":body-too-large")
        wait_until(lambda: any(getattr(record, "status", 0) == 413 for record in caplog.records))
    clients = {vars(record)["client"] for record in caplog.records if getattr(record, "path", "") == "/predict"}
    assert clients == {CLIENT}


@pytest.mark.parametrize("name", COMMANDS)
def test_limits_of_the_examples_leave_those_to_the_server(name: str) -> None:
    text, settings = (PROXY / name).read_text(), Settings()
    longest = max(settings.max_deadline_ms / 1000, settings.upload_timeout_s)
    waits = [int(s) for s in re.findall(r"(?:read_timeout|header_timeout|timeout server)\s+(\d+)s", text)]
    assert waits and min(waits) > longest
    sizes = re.findall(r"(?:max_body_size|max_size|body_size\} gt|body_size gt) (\d+)(m|MB|)", text)
    units = {"m": MIB, "MB": 1_000_000, "": 1}
    assert sizes and min(int(number) * units[unit] for number, unit in sizes) > settings.max_adapter_bytes + 65536
