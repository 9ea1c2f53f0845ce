"""HEAD wherever there is GET: the same status and headers, and no body."""

from pathlib import Path

import httpx
import pytest

from app.startup.settings import Settings
from testing.serving import Live, Weights, live_app, settings_for

PATHS = [
    "/", "/docs", "/openapi.json", "/favicon.ico", "/static/js/main.js", "/livez", "/readyz", "/metrics", "/tasks",
    "/adapters", "/adapters/people", "/adapters/people/file", "/adapters/nobody", "/v2", "/v2/health/live",
    "/v2/health/ready", "/v2/models/people", "/v2/models/nobody", "/static/nothing.js", "/nowhere",
]  # fmt: skip
CHANGING = {"x-request-id", "server-timing", "date"}


def seen(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in CHANGING}


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_as_get_without_a_body(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert head.content == b""
    assert head.status_code == got.status_code
    different = {"content-length"} if path in {"/metrics", "/adapters", "/adapters/people"} else set()  # uses go up
    different |= {"content-length"} if got.status_code == 404 else set()  # the detail says which method it was
    assert {k: v for k, v in seen(head).items() if k not in different} == {
        k: v for k, v in seen(got).items() if k not in different
    }
    assert {"x-request-id", "server-timing", "content-length"} <= head.headers.keys()


def test_the_connection_goes_on_behind_a_head(live: Live) -> None:
    with httpx.Client(base_url=live.url, limits=httpx.Limits(max_connections=1)) as one:
        for _ in range(3):
            assert one.head("/adapters/people/file").content == b""
            assert one.get("/livez").json() == {"status": "alive"}


def test_where_there_is_no_get_head_is_405(client: httpx.Client) -> None:
    response = client.head("/predict")
    assert (response.status_code, response.headers["allow"], response.content) == (405, "POST", b"")
    assert set(client.put("/livez").headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_head_says_no_while_draining(weights: Weights, tmp_path: Path) -> None:
    settings: Settings = settings_for(weights, tmp_path / "store")
    with live_app(settings) as server:
        server.service.drain()
        head = server.client.head("/readyz")
        assert (head.status_code, head.content) == (503, b"")
        assert head.headers["retry-after"] == server.client.get("/readyz").headers["retry-after"]
        assert server.client.head("/livez").status_code == 200


def test_a_method_that_a_path_does_not_know_is_told_which_it_knows(client: httpx.Client) -> None:
    """All of them, of whatever routes share the path; RFC 9110 asks for `Allow`."""
    known = {path: set(of) for path, of in client.get("/openapi.json").json()["paths"].items()}
    known["/"] |= {"get"}  # the page, which the schema leaves out
    for path, methods in known.items():
        allowed = {method.upper() for method in methods} | ({"HEAD"} if "get" in methods else set())
        response = client.request("PATCH", path.replace("{", "").replace("}", ""))
        assert response.status_code == 405, path
        assert response.headers["allow"] == ", ".join(sorted(allowed)), path
        assert f"this path takes {response.headers['allow']}" in response.text, path


@pytest.mark.parametrize("path", ["/docs", "/static/js/main.js", "/favicon.ico", "/livez/"])
def test_pages_and_probes_allow_get_and_head(client: httpx.Client, path: str) -> None:
    assert client.post(path).headers["allow"] == "GET, HEAD"
