"""Pages of other origins: preflights, and headers on every answer, whoever gives it."""

import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from testing.key_files import add, key
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for

PAGE = "http://localhost:3000"
OTHER = "https://elsewhere.example"
KEY = "a-key-of-the-test"
PHOTO = encoded(picture(), "JPEG")
AS_JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def server(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    keys = f"web:{sha256(KEY.encode()).hexdigest()}:predict"
    settings = settings_for(
        weights, tmp_path_factory.mktemp("cors") / "s", cors_origins=f"{PAGE},{OTHER}", api_keys=keys,
        max_header_bytes=2048, header_timeout_s=0.5, body_timeout_s=0.5, max_body_bytes=100_000,
    )  # fmt: skip
    with live_app(settings) as live:
        yield live


def raw(live: Live, request: bytes) -> str:
    """What comes back until the server closes, head in lower case."""
    with socket.create_connection(("127.0.0.1", int(live.url.rpartition(":")[2])), timeout=10) as sock:
        sock.sendall(request)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer.decode("latin-1")


def test_a_preflight_needs_no_key(server: Live) -> None:
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for path in ("/predict", "/adapters", "/v2/models/default/infer", "/"):
        answer = server.client.options(path, headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
        assert {"origin", "access-control-request-headers"} <= set(
            answer.headers["vary"].lower().replace(" ", "").split(",")
        )
        assert answer.headers["x-request-id"]


def test_a_preflight_of_another_origin_is_told_the_setting(server: Live) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = server.client.options("/predict", headers=asked)
    assert answer.status_code == 403
    assert "MTLORA_CORS_ORIGINS" in answer.json()["detail"]
    assert "access-control-allow-origin" not in answer.headers


def check(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in answer.headers["vary"]
    exposed = answer.headers["access-control-expose-headers"]
    assert {"X-Request-ID", "Retry-After", "X-Adapter-Revision", "Server-Timing"} <= set(exposed.split(", "))
    assert "access-control-allow-credentials" not in answer.headers


def test_answers_and_errors_carry_the_headers(server: Live) -> None:
    from_page, with_key = {"Origin": PAGE, **AS_JPEG}, {"X-API-Key": KEY}
    post = server.client.post
    check(post("/predict", content=PHOTO, headers=from_page | with_key), 200)
    check(post("/predict", content=PHOTO, headers=from_page), 401)
    check(post("/adapters", headers=from_page | with_key), 403)
    check(post("/predict?adapter=nobody", content=PHOTO, headers=from_page | with_key), 404)
    check(post("/predict", content=bytes(200_000), headers=from_page | with_key), 413)
    check(server.client.get("/nowhere", headers=from_page), 404)
    check(server.client.put("/livez", headers=from_page), 405)
    check(server.client.get("/livez", headers=from_page), 200)
    check(server.client.get("/livez", headers={**from_page, **{f"X-{n}": "1" for n in range(110)}}), 431)
    assert "Accept" in post("/predict", content=PHOTO, headers=from_page | with_key).headers["vary"]


def test_others_get_none_but_caches_are_told(server: Live) -> None:
    for headers in ({}, {"Origin": "https://evil.example"}):
        answer = server.client.get("/livez", headers=headers)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nOrigin: %b\r\nX: " + b"y" * 4000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nOrigin: %b\r\nBad Header: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nOrigin: %b\r\n", 408),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: " + KEY.encode() + b"\r\nContent-Type: image/jpeg\r\n"
         b"Content-Length: 9\r\nConnection: close\r\nOrigin: %b\r\n\r\nx", 408),
        (b"GET / HTTP/1.1\r\nHost: a b\r\nOrigin: %b\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_refusals_below_the_application_carry_them_too(server: Live, request_bytes: bytes, status: int) -> None:
    answer = raw(server, request_bytes.replace(b"%b", PAGE.encode()))
    head = answer.partition("\r\n\r\n")[0].lower()
    assert answer.startswith(f"HTTP/1.1 {status} "), answer
    assert f"access-control-allow-origin: {PAGE}" in head
    assert "vary: origin" in head
    assert (
        "access-control-allow-origin" not in raw(server, request_bytes.replace(b"%b", b"https://evil.example")).lower()
    )


def test_quota_draining_and_too_many_connections(weights: Weights, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    add(keys, key(KEY, quota={"requests_per_minute": 1}))
    settings = settings_for(weights, tmp_path / "s", cors_origins=PAGE, keys_file=keys, max_connections=1)
    headers = {"Origin": PAGE, "X-API-Key": KEY, **AS_JPEG}
    with live_app(settings) as live:
        assert live.client.post("/predict", content=PHOTO, headers=headers).status_code == 200
        check(live.client.post("/predict", content=PHOTO, headers=headers), 429)
        refused = raw(live, b"")  # the client above holds the one connection
        assert refused.startswith("HTTP/1.1 503 ") and f"access-control-allow-origin: {PAGE}" in refused.lower()
        live.service.drain()
        check(live.client.get("/readyz", headers=headers), 503)


def test_off_by_default(client: httpx.Client) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answers = [client.options("/predict", headers=asked), client.get("/livez", headers=asked)]
    assert [answer.status_code for answer in answers] == [405, 200]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]
