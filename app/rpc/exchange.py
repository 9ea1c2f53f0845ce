"""One request to the HTTP application within the process, as a server of HTTP would hand it over."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from app.core.request_context import PROTOCOL


class Ask(NamedTuple):
    """A request."""

    method: str
    path: str  # percent-encoded
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()


class Answer(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class Exchange:
    """A request on its way; `leave` tells the application that nobody waits for it any more."""

    def __init__(self, app: ASGIApp, ask: Ask, client: str) -> None:
        self._app = app
        self._ask = ask
        self._client = client
        self._read = False
        self._gone = asyncio.Event()
        self._status = 500
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []

    def leave(self) -> None:
        """The client has gone."""
        self._gone.set()

    async def run(self) -> Answer:
        """The application's answer."""
        await self._app(self._scope(), self._receive, self._send)
        return Answer(self._status, self._headers, b"".join(self._pieces))

    def _scope(self) -> Scope:
        path, headers = self._ask.path, [*self._ask.headers, ("content-length", str(len(self._ask.body)))]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self._ask.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers],
            "client": (self._client, 0) if self._client else None,
            "server": None,
            "state": {},
            PROTOCOL: "grpc",
        }

    async def _receive(self) -> dict[str, Any]:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": self._ask.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in message["headers"]}
        elif message["type"] == "http.response.body":
            self._pieces.append(bytes(message.get("body", b"")))
