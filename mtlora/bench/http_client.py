"""A small HTTP/1.1 client on asyncio streams: what a load generator needs and no more, so that it costs little.

Connections are kept and reused. Nothing is retried: whoever sends decides what a broken connection means.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from mtlora.vocabulary.shown import shown

STREAM_LIMIT = 1 << 20  # of a head and of the read buffer
MOST_BYTES = 1 << 28  # of the body of an answer, whatever it announces
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([2-5][0-9]{2})(?: |$)")
_LENGTH = re.compile(r"[0-9]{1,18}")
NO_BODY = frozenset({204, 304})


class TransportError(Exception):
    """The connection failed or the answer was no HTTP; whether the request had an effect is unknown."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Client:
    """Requests to one server over at most `connections` connections; more wait for a free one."""

    def __init__(self, url: str, *, connections: int = 64, timeout_s: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"need http://HOST:PORT, got {url!r}")
        self.host, self.port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = True if parts.scheme == "https" else None
        self._under = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._free: list[_Connection] = []
        self._room = asyncio.Semaphore(connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget_connections()

    def forget_connections(self) -> None:
        """Close what is idle, as after a restart of the server."""
        while self._free:
            self._free.pop().writer.transport.abort()

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One answer, or `TransportError`. Cancelling closes the connection: to the server, a client that left."""
        async with self._room:
            connection = await self._connect()
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection.writer.write(self._head(method, path, len(body), headers) + body)
                    reply = await _read_reply(connection.reader)
            except TimeoutError:
                connection.writer.transport.abort()
                raise TransportError(f"{method} {path}: no answer within {self._timeout_s:g} s") from None
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                connection.writer.transport.abort()
                raise TransportError(f"{method} {path}: {type(error).__name__}: {shown(error)}") from error
            except asyncio.CancelledError:
                connection.writer.transport.abort()
                raise
            if reply.headers.get("connection", "").lower() == "close":
                connection.writer.transport.abort()
            else:
                self._free.append(connection)
            return reply

    async def send_part(
        self, method: str, path: str, body: bytes, sent: int, wait_s: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """Announce the whole body, send `sent` bytes of it, wait, and leave without reading an answer."""
        async with self._room:
            connection = await self._connect()
            try:
                connection.writer.write(self._head(method, path, len(body), headers) + body[:sent])
                await asyncio.sleep(wait_s)
            finally:
                connection.writer.transport.abort()

    async def _connect(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if not connection.writer.is_closing() and not connection.reader.at_eof():
                return connection
            connection.writer.transport.abort()
        try:
            async with asyncio.timeout(self._timeout_s):
                opened = asyncio.open_connection(self.host, self.port, limit=STREAM_LIMIT, ssl=self._tls)
                return _Connection(*await opened)
        except (OSError, ValueError) as error:  # a host's name that cannot be one is a ValueError
            raise TransportError(f"cannot connect to {self.host}:{self.port}: {error}") from error

    def _head(self, method: str, path: str, length: int, headers: Mapping[str, str] | None) -> bytes:
        lines = [
            f"{method} {self._under}{path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Content-Length: {length}",
        ]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def multipart(fields: Mapping[str, str], file: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form with one part named `file`."""
    boundary = f"boundary-{time.monotonic_ns():x}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    begin = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="set"\r\n\r\n'.encode()
    body = b"".join([*parts, begin, file, f"\r\n--{boundary}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


async def _read_reply(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    found = _STATUS_LINE.match(first)
    if found is None:
        raise ValueError(f"no status line: {shown(first, 100)}")
    status = int(found[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if status in NO_BODY:
        return Reply(status, headers, b"")
    if "content-length" not in headers:
        raise ValueError(f"an answer without Content-Length: {shown(first, 100)}")
    length = headers["content-length"]
    if not _LENGTH.fullmatch(length) or int(length) > MOST_BYTES:
        raise ValueError(f"an answer too long: {shown(length, 30)} bytes; at most {MOST_BYTES} are read")
    return Reply(status, headers, await reader.readexactly(int(length)))
