"""A server that answers what a test tells it to, and remembers what it was asked."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

HANG_UP = 0  # as a status: close the connection without an answer
HANG_S = 1.0


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float


@dataclass
class Say:
    """One answer; status 0 hangs up, `after_s` makes the client wait.

    raw: what is sent instead, byte for byte, as far as the client takes it; the connection is closed then
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    raw: Callable[[], Iterable[bytes]] | None = None


def problem(status: int, kind: str = "queue-full", after: str = "0", **more: Any) -> Say:
    """A refusal in the server's form."""
    document = {"type": f"urn:mtlora:problem:{kind}", "title": kind, "status": status, "detail": f"because {kind}"}
    body = json.dumps({**document, "request_id": "r-1", **more}).encode()
    return Say(status, body, {"Content-Type": "application/problem+json", **({"Retry-After": after} if after else {})})


class Stub:
    """Answers with `script` in turn, the last one for ever."""

    def __init__(self) -> None:
        self.script: list[Say] = [Say(200)]
        self.asked: list[Asked] = []
        self.sent_whole: list[bool] = []  # of raw answers: whether the client took all of it
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one piece, or the kernel holds the second back for 40 ms

            def answer(self) -> None:
                body = _body(self)
                say = stub.script[min(len(stub.asked), len(stub.script) - 1)]
                stub.asked.append(Asked(self.command, self.path, dict(self.headers), body, time.monotonic()))
                time.sleep(say.after_s)
                if say.raw is not None:
                    self.close_connection = True
                    stub.sent_whole.append(_send_raw(self.connection, say.raw()))
                    return
                if say.status == HANG_UP:
                    self.close_connection = True
                    return
                self.send_response(say.status)
                for name, value in {"Content-Length": str(len(say.body)), **say.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(say.body)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 (http.server looks for them)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that hangs up is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def raw(*pieces: bytes) -> Say:
    """An answer of these bytes."""
    return Say(200, raw=lambda: pieces)


def drip(head: bytes, piece: bytes, *, times: int = 400, every_s: float = 0.05) -> Say:
    """A head, and then a little now and then: for 20 seconds, if the client bears it."""

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(times):
            time.sleep(every_s)
            yield piece

    return Say(200, raw=pieces)


def _send_raw(connection: socket.socket, pieces: Iterable[bytes]) -> bool:
    try:
        for piece in pieces:
            connection.sendall(piece)
    except OSError:
        return False
    return True


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body
