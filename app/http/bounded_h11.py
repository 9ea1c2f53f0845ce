"""HTTP/1.1 connections with the bounds that uvicorn leaves open.

A head has a largest size and must arrive in time; chunks may not be so small that parsing them is an attack; what was
refused early is not read for ever; who does not take the answer is cut off; connections have a number. What cannot be
parsed gets a problem document and loses its connection, so nothing behind it is ever taken for a request. Who has said
all that they want to say, and ends their side of the connection, is answered (docs/decisions/0014).
"""

import asyncio
import json
import logging
import re
import socket
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.http.cross_origin import CrossOrigin, origin_in

log = logging.getLogger("app.requests")

LINGER_S = 30.0  # how long the rest of a body is read and thrown away after an early answer, so that it is seen
FREE_CHUNKS = 1000  # of a body, before their mean size counts
LEAST_CHUNK_BYTES = 512
PROBES_S = (0.3, 0.2, 2.0)
"""When a client whose side has ended is asked whether it is still there: soon, unless it is answered first; soon again,
because a sign of life to nobody fails at the second attempt; then every so many seconds."""
_END_OF_HEAD = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of one server's connections."""

    connections: int
    head_bytes: int
    head_timeout_s: float
    stall_timeout_s: float  # how long a client may take nothing of an answer
    origins: CrossOrigin = field(default_factory=CrossOrigin)  # whose pages may read even refusals


class _Connection(h11.Connection):
    """A parser that refuses what would cost too much before it parses it."""

    def __init__(self, head_bytes: int) -> None:
        super().__init__(h11.SERVER, head_bytes)
        self._head_bytes = head_bytes
        self._chunks = 0
        self._chunk_bytes = 0

    def next_event(self) -> Any:
        if self.their_state is h11.IDLE:
            self._check_head()
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunk_bytes = 0
        elif isinstance(event, h11.Data) and (event.chunk_start or event.chunk_end):
            self._check_chunk(event)
        return event

    def _check_head(self) -> None:
        waiting = self.trailing_data[0]
        if len(waiting) > self._head_bytes and not _END_OF_HEAD.search(waiting, 0, self._head_bytes):
            raise h11.RemoteProtocolError(
                f"the head of a request may have {self._head_bytes} bytes; this one has more", error_status_hint=431
            )

    def _check_chunk(self, event: h11.Data) -> None:
        self._chunks += event.chunk_start
        self._chunk_bytes += len(event.data)
        if self._chunks > FREE_CHUNKS and self._chunk_bytes < self._chunks * LEAST_CHUNK_BYTES:
            raise h11.RemoteProtocolError(
                f"{self._chunks} chunks hold {self._chunk_bytes} bytes; they must have {LEAST_CHUNK_BYTES} in the mean"
            )


class BoundedProtocol(H11Protocol):
    """uvicorn's connection within `limits`."""

    limits: ConnectionLimits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Connection(self.limits.head_bytes)
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._ended = False  # the client says nothing more
        self._head = b""  # what came of one that is not parsed, where it matters which origin it names

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it if there are enough."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            with suppress(OSError):  # a socket that is no TCP socket
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.limits.stall_timeout_s * 1000))
        if len(self.connections) > self.limits.connections:
            self._refuse(503, f"the server has {self.limits.connections} connections, which is as many as it takes")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its timers."""
        self._head_timer = _cancelled(self._head_timer)
        self._linger_timer = _cancelled(self._linger_timer)
        self._probe_timer = _cancelled(self._probe_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a head or a body."""
        if self.limits.origins.on and self.conn.their_state is h11.IDLE:
            self._head = (self._head + data)[: self.limits.head_bytes]
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head = b""
        self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client's side has ended. Whether to keep ours: as long as a whole request waits for its answer.

        It may have left as well, which looks the same until something is sent to it.
        """
        self._ended = self._answering()
        self._watch_who_ended()
        return self._ended

    def on_response_complete(self) -> None:
        """An answer is out; the rest of its request may still be on its way, or a request behind it be the last."""
        super().on_response_complete()
        if self._ended and not self._answering():
            self.transport.close()
            return
        self._watch_who_ended()
        if self.conn.their_state is h11.SEND_BODY and self._linger_timer is None:
            self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed. Called while the parser's error is handled, which says more than `msg`."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        unanswered = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whatever reads this body learns that no more of it comes
            self.cycle.message_event.set()
        if unanswered:
            self._refuse(status, f"not a request of HTTP/1.1: {error or msg}")
        else:
            self.transport.close()

    def _should_upgrade(self) -> bool:
        """Never: there is nothing to upgrade to, and whoever offers it (curl --http2) is answered in HTTP/1.1."""
        return False

    def _answering(self) -> bool:
        """Whether a request that has come whole waits for its answer, or for the end of it."""
        under_way = self.cycle is not None and not self.cycle.response_complete
        return under_way and self.conn.their_state is not h11.SEND_BODY

    def _watch_who_ended(self) -> None:
        """Begin to look after a client whose side has ended; HTTP/1.0 knows nothing to ask it with."""
        if self._ended and self._probe_timer is None and self.scope["http_version"] != "1.0":
            self._probe_timer = self.loop.call_later(PROBES_S[0], self._probe, 1)

    def _probe(self, number: int) -> None:
        """Send signs of life until the answer begins: to a client that has left, the second of them fails."""
        self._probe_timer = None
        if self.transport.is_closing() or self.cycle.response_started:
            return
        alive = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
        self.transport.write(self.conn.send(alive) or b"")
        self._probe_timer = self.loop.call_later(PROBES_S[min(number, len(PROBES_S) - 1)], self._probe, number + 1)

    def _watch(self) -> None:
        """Start or stop the clock of a head that has begun; the clock of a lingering body when it is over."""
        if self.conn.their_state is not h11.SEND_BODY:
            self._linger_timer = _cancelled(self._linger_timer)
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            self._head_timer = _cancelled(self._head_timer)
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(408, f"the head of a request must arrive within {self.limits.head_timeout_s:g} s")
        else:
            self.transport.close()

    def _to_origins(self) -> dict[str, str]:
        """For a page of another origin, as far as its origin can be read of what has come."""
        parsed = self.headers if self.conn.our_state is h11.SEND_RESPONSE else []
        said = next((value.decode("latin-1") for name, value in parsed if name == b"origin"), None)
        return self.limits.origins.headers(said or origin_in(self._head), unread=True)

    def _refuse(self, status: int, detail: str) -> None:
        """Answer without the application, and close: what follows on this connection is not listened to."""
        phrase = HTTPStatus(status).phrase
        request_id = uuid.uuid4().hex
        kind = f"urn:mtlora:problem:{phrase.lower().replace(' ', '-')}"
        problem = {"type": kind, "title": phrase, "status": status, "detail": detail[:300], "request_id": request_id}
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-ID: {request_id}\r\nServer-Timing: total;dur=0\r\nConnection: close\r\n"
            f"{'Retry-After: 1' + chr(13) + chr(10) if status == 503 else ''}"
        )
        head += "".join(f"{name}: {value}\r\n" for name, value in self._to_origins().items()) + "\r\n"
        self.transport.write(head.encode("latin-1") + body)
        self.transport.close()
        client = self.client[0] if self.client else ""
        facts = {"request_id": request_id, "method": "", "path": "", "status": status, "client": client, "total_ms": 0}
        log.info("request", extra={**facts, "problem": kind.rpartition(":")[2], "reason": detail[:300]})


def bounded_protocol(limits: ConnectionLimits) -> type[BoundedProtocol]:
    """The protocol for a server with these limits; uvicorn makes one for each connection."""
    return type("Protocol", (BoundedProtocol,), {"limits": limits})


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """None, for a timer that is cancelled."""
    if timer is not None:
        timer.cancel()
    return None
