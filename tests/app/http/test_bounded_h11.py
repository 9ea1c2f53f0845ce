"""Connections of a real server, spoken to byte by byte: nothing is smuggled, nothing waits for ever."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

import app.http.bounded_h11
from testing.raw_http import CONFUSING, connect, request, talk
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
MULTIPART = b"Content-Type: multipart/form-data; boundary=b\r\n"


@pytest.fixture(scope="module")
def bounded(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    bounds: dict[str, Any] = {"header_timeout_s": 0.5, "body_timeout_s": 0.8, "max_connections": 30, "keep_alive_s": 1}
    settings = settings_for(weights, tmp_path_factory.mktemp("bounded") / "s", stall_timeout_s=1, **bounds)
    with live_app(settings) as live:
        yield live


def statuses(said: bytes) -> list[int]:
    """The status of every answer on a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


@pytest.mark.parametrize("name", CONFUSING)
def test_one_answer_and_the_connection_is_closed(bounded: Live, name: str) -> None:
    """Whatever stands behind such a request is not taken for a second one."""
    sent, status = CONFUSING[name]
    said = talk(bounded, sent + SMUGGLED + SMUGGLED)
    assert statuses(said) == [status], said[:500]
    assert b"connection: close" in said.lower()
    assert b"smuggled" not in said
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"x-request-id" in head.lower()
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"--b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n\r\n--b--\r\n", 400),
        (b"--b--\r\n" + SMUGGLED, 422),
        (b"no boundary at all" + SMUGGLED, 400),
        (b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--b--\r\n' + SMUGGLED, 415),
    ],
)
def test_odd_multipart_ends_where_its_length_says(bounded: Live, body: bytes, status: int) -> None:
    sent = request(MULTIPART + b"Content-Length: %d\r\n" % len(body), body)
    last = request(b"Connection: close\r\n", method=b"GET", path=b"/livez")
    said = talk(bounded, sent + last)
    assert statuses(said) == [status, 200]
    assert b"smuggled" not in said


def test_pipelined_requests_are_answered_in_order(bounded: Live) -> None:
    said = talk(bounded, request(b"", method=b"GET", path=b"/livez") * 3 + request(b"", method=b"GET", path=b"/none"))
    assert statuses(said) == [200, 200, 200, 404]


def test_tiny_chunks_are_cut_off(bounded: Live) -> None:
    """The parser takes some 10 µs for each: a flood of them would stop everybody."""
    head = b"Transfer-Encoding: chunked\r\nContent-Type: image/jpeg\r\n"
    start = time.perf_counter()
    said = talk(bounded, request(head, b"1\r\nX\r\n" * 200_000))
    assert statuses(said) in ([400], [])  # the answer may be lost with a connection that still sends
    assert time.perf_counter() - start < 5
    pieces = b"".join(
        b"%x\r\n" % len(part) + part + b"\r\n" for part in (PHOTO[i : i + 600] for i in range(0, len(PHOTO), 600))
    )
    assert statuses(talk(bounded, request(head + b"Connection: close\r\n", pieces + b"0\r\n\r\n"))) == [200]


def test_a_head_must_arrive_in_time(bounded: Live) -> None:
    for pieces in ((b"GET /livez HTTP/1.1\r\n",), (b"GET /livez HTTP/1.1\r\nX: a", b"b", b"c", b"d", b"e")):
        start = time.perf_counter()
        assert statuses(talk(bounded, *pieces, pause_s=0.2)) == [408]
        assert time.perf_counter() - start < 3


def test_a_later_head_must_arrive_in_time_too(bounded: Live) -> None:
    said = talk(bounded, request(b"", method=b"GET", path=b"/livez"), b"GET /li", b"v", b"e", b"z", b" ", pause_s=0.2)
    assert statuses(said) == [200, 408]


def test_connections_that_say_nothing_are_closed(bounded: Live) -> None:
    start = time.perf_counter()
    assert talk(bounded) == b""
    assert time.perf_counter() - start < 1.9


def test_a_body_must_arrive_in_time(bounded: Live) -> None:
    start = time.perf_counter()
    said = talk(bounded, request(b"Content-Type: image/jpeg\r\nContent-Length: 1000\r\n"), *[b"x"] * 8, pause_s=0.2)
    assert statuses(said) == [408]
    assert time.perf_counter() - start < 6


def test_what_follows_an_early_answer_is_not_read_for_ever(bounded: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.http.bounded_h11, "LINGER_S", 0.5)
    with connect(bounded) as sock:
        sock.sendall(request(b"Content-Type: text/plain\r\nContent-Length: 100000000\r\n"))
        assert sock.recv(65536).startswith(b"HTTP/1.1 415")
        start = time.perf_counter()
        with pytest.raises(ConnectionError):
            while time.perf_counter() - start < 10:
                sock.sendall(b"x" * 1000)
                time.sleep(0.05)


def test_a_connection_goes_on_after_an_early_answer_whose_body_came(bounded: Live) -> None:
    body = b"x" * 200_000
    sent = request(b"Content-Type: text/plain\r\nContent-Length: %d\r\n" % len(body), body)
    assert statuses(talk(bounded, sent, request(b"", method=b"GET", path=b"/livez"), pause_s=0.1)) == [415, 200]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux cuts off who does not read")
def test_who_does_not_take_the_answer_is_cut_off(bounded: Live) -> None:
    with connect(bounded) as sock:
        ours = sock.getsockname()

        def connected() -> bool:
            return any(
                getattr(connection, "client", None) == ours
                for connection in bounded.server.server_state.connections.copy()
            )

        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        for _ in range(400):  # some 20 MB of answers, more than the kernel's buffers take
            with suppress(BlockingIOError):
                sock.send(request(b"", method=b"GET", path=b"/openapi.json"))
        wait_until(connected, 5)
        wait_until(lambda: not connected(), 15)


def test_connections_have_a_number(bounded: Live) -> None:
    wait_until(lambda: len(bounded.server.server_state.connections) < 5, 5)
    held = [connect(bounded) for _ in range(30)]
    try:
        wait_until(lambda: len(bounded.server.server_state.connections) >= 28, 5)
        extra = b""
        for _ in range(5):
            with connect(bounded) as sock:
                sock.settimeout(2)
                extra += sock.recv(4096)
        assert 503 in statuses(extra)
        assert b"Retry-After" in extra
    finally:
        for sock in held:
            sock.close()
    wait_until(lambda: len(bounded.server.server_state.connections) < 5, 5)
    assert httpx.get(f"{bounded.url}/livez").status_code == 200


LAST = b"Connection: close\r\n"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        (b"GET", b"http://evil.example/livez", 200),
        (b"GET", b"HTTPS://evil.example:8443/livez?a=http://b/", 200),
        (b"GET", b"http://evil.example", 200),
        (b"GET", b"http://evil.example/livez/", 200),
        (b"POST", b"http://evil.example/predict?masks=none", 200),
        (b"POST", b"http://evil.example/nowhere", 404),
        (b"OPTIONS", b"*", 204),
        (b"CONNECT", b"/livez", 405),
    ],
)
def test_a_url_means_its_path(bounded: Live, method: bytes, target: bytes, status: int) -> None:
    head, body = LAST, b""
    if method == b"POST":
        head, body = LAST + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n" % len(PHOTO), PHOTO
    said = talk(bounded, request(head, body, method, target))
    assert statuses(said) == [status]
    assert b"evil" not in said


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        (b"GET", b"/tasks/", 200),
        (b"GET", b"/adapters/", 200),
        (b"GET", b"/adapters/people/", 200),
        (b"PUT", b"/adapters/people/pin/", 200),
        (b"DELETE", b"/adapters/people/pin/", 200),
        (b"POST", b"/predict/?masks=none", 200),
        (b"GET", b"/tasks//", 404),
        (b"GET", b"//", 404),
        (b"GET", b"//evil.example/tasks/", 404),
        (b"GET", b"/tasks%2f", 404),
        (b"GET", b"/docs/", 404),
        (b"GET", b"/static", 404),
        (b"GET", b"/static/", 404),
        (b"DELETE", b"/adapters/", 405),
    ],
)
def test_a_slash_at_the_end_leads_nowhere_else(bounded: Live, method: bytes, path: bytes, status: int) -> None:
    """A redirect would be made of the Host that the client says, and before any key is asked for."""
    head, body = LAST, b""
    if method == b"POST":
        head, body = LAST + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n" % len(PHOTO), PHOTO
    said = talk(bounded, request(head, body, method, path).replace(b"Host: x", b"Host: evil.example"))
    assert statuses(said) == [status]
    assert b"location" not in said.partition(b"\r\n\r\n")[0].lower()


PREDICT = request(b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n" % len(PHOTO), PHOTO)
LIVEZ = request(b"", method=b"GET", path=b"/livez")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (PREDICT, [200]),
        (PREDICT.replace(b"HTTP/1.1", b"HTTP/1.0"), [200]),
        (LIVEZ + PREDICT + LIVEZ, [200, 200, 200]),
        (LIVEZ + PREDICT[:-1], [200]),  # the last one never came whole
        (LIVEZ + b"GET /li", [200]),
        (PREDICT[:-1], []),
        (PREDICT[:30], []),
        (b"", []),
    ],
)
def test_who_ends_their_side_is_answered_what_they_asked(bounded: Live, sent: bytes, expected: list[int]) -> None:
    with connect(bounded) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: sock.recv(65536), b""))  # until the server closes
    assert [status for status in statuses(said) if status != 100] == expected
    wait_until(lambda: not bounded.server.server_state.tasks, 5)
