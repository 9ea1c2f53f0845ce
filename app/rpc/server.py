"""The gRPC port: reads calls within bounds, asks the HTTP application, and says its errors in gRPC's words."""

import asyncio
import json
import logging
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError
from starlette.types import ASGIApp

from app.access.gatekeeper import Gatekeeper
from app.core.errors import BadBodyError, StartupError
from app.rpc.calls import CALLS, Call
from app.rpc.exchange import Answer, Ask, Exchange
from app.rpc.messages import SERVICE
from app.rpc.tensors import DEADLINE_HEADER, MOST_ANSWER_BYTES
from app.startup.settings import Settings

log = logging.getLogger(__name__)

OVERHEAD_BYTES = 65_536  # of a message beside its images
LARGE_BYTES = 1 << 20  # above this, messages are made and read in a thread
STREAMS = 100  # calls at once on one connection
MOST_DEADLINE_MS = 3_600_000
PASSED_ON = re.compile(r"x-[a-z0-9-]+|authorization|traceparent|tracestate")
TOLD = (
    "x-request-id",
    "x-adapter-revision",
    "x-adapter-cold",
    "x-compute-share",
    "x-tiles",
    "server-timing",
    "retry-after",
)
INVALID = grpc.StatusCode.INVALID_ARGUMENT
CODE_OF = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""What a status of HTTP is in gRPC; others are arguments that make no sense."""

G = TypeVar("G")
M = TypeVar("M")
Context: TypeAlias = Any
"""A `grpc.aio.ServicerContext`; the package has no types."""


class RpcServer:
    """The port, from `start` to `stop`. Lives on the event loop of the application."""

    def __init__(self, app: ASGIApp, settings: Settings, gatekeeper: Gatekeeper) -> None:
        self._app = app
        self._settings = settings
        self._gatekeeper = gatekeeper
        self._reading = asyncio.Semaphore(max(1, settings.max_inflight_body_bytes // settings.max_body_bytes))
        self._running: set[asyncio.Task[Answer]] = set()
        self._server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=settings.max_connections)
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(partial(self._handle, call)) for name, call in CALLS.items()
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])

    async def start(self) -> int:
        """Open the port and say which; `StartupError` if it cannot be."""
        host, port = self._settings.host, self._settings.grpc_port or 0
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            opened: int = self._server.add_insecure_port(where)
        except RuntimeError as error:
            raise StartupError(f"cannot listen for gRPC on {where}: {str(error)[:200]}") from error
        await self._server.start()
        log.info("listening", extra={"host": host, "port": opened, "protocol": "grpc"})
        return opened

    async def stop(self, grace_s: float) -> None:
        """Take no calls any more, and give those under way so long."""
        await self._server.stop(grace_s)
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _handle(self, call: Call, messages: AsyncIterator[bytes], context: Context) -> bytes:
        """Answer a call. Its one message is read like a stream: only when there is room for it."""
        metadata = [(str(k).lower(), v) for k, v in context.invocation_metadata() or () if isinstance(v, str)]
        content = b""
        if call.open or self._is_known(dict(metadata)):  # from others nothing is read: the application refuses them
            content = await self._read(messages, context)
        try:
            ask = await _aside(len(content), call.ask, content)
        except (BadBodyError, DecodeError) as error:
            detail = error.detail if isinstance(error, BadBodyError) else f"the message cannot be parsed: {error}"
            return await _refuse(context, INVALID, f"Bad body: {detail}")
        del content
        headers = [*ask.headers, *_headers(metadata, context)]
        answer = await self._ask(ask._replace(headers=headers), _client(context.peer()))
        told = tuple((name, answer.headers[name]) for name in TOLD if name in answer.headers)
        if answer.status >= 400 and answer.status not in call.answered:
            return await _refuse(context, CODE_OF.get(answer.status, INVALID), _words(answer), told)
        if len(answer.body) > MOST_ANSWER_BYTES:
            words = (
                f"the answer has {len(answer.body)} bytes, a message {MOST_ANSWER_BYTES} at most; ask for fewer tasks"
            )
            return await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, words, told)
        await context.send_initial_metadata(told)
        return await _aside(len(answer.body), call.answer, answer)

    def _is_known(self, metadata: dict[str, str]) -> bool:
        scheme, _, bearer = metadata.get("authorization", "").partition(" ")
        presented = bearer.strip() if scheme.lower() == "bearer" else metadata.get("x-api-key")
        return self._gatekeeper.knows(presented)

    async def _read(self, messages: AsyncIterator[bytes], context: Context) -> bytes:
        """The one message of a call; as many are read at once as bodies have room for."""
        async with self._reading:
            try:
                async with asyncio.timeout(self._settings.body_timeout_s):
                    return await anext(aiter(messages), b"")
            except TimeoutError:
                words = f"Body too slow: the message must arrive within {self._settings.body_timeout_s:g} s"
                return await _refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, words)

    async def _ask(self, ask: Ask, client: str) -> Answer:
        """The application's answer. A client that leaves is told of as one of HTTP is."""
        exchange = Exchange(self._app, ask, client)
        task = asyncio.create_task(exchange.run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            exchange.leave()
            raise


def _options(settings: Settings) -> Sequence[tuple[str, Any]]:
    return (
        ("grpc.max_receive_message_length", settings.max_body_bytes + OVERHEAD_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_connection_idle_ms", settings.keep_alive_s * 1000),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: what is small on the way could be large here
        ("grpc.so_reuseport", 0),
    )


async def _aside(nbytes: int, work: Callable[[G], M], given: G) -> M:
    """Done here if it is small, else in a thread."""
    return work(given) if nbytes < LARGE_BYTES else await asyncio.to_thread(work, given)


async def _refuse(context: Context, code: grpc.StatusCode, words: str, told: Sequence[tuple[str, str]] = ()) -> bytes:
    """End the call; gRPC does so with an exception of its own, so nothing is ever given back."""
    await context.abort(code, words, tuple(told))
    return b""


def _words(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status}"


def _headers(metadata: Sequence[tuple[str, str]], context: Context) -> list[tuple[str, str]]:
    """What the client said of itself, twice if it said it twice, and its deadline as a header."""
    headers = [(name, value) for name, value in metadata if PASSED_ON.fullmatch(name)]
    left_s = context.time_remaining()
    if DEADLINE_HEADER not in dict(metadata) and left_s is not None and left_s * 1000 < MOST_DEADLINE_MS:
        headers.append((DEADLINE_HEADER, str(max(1, math.ceil(left_s * 1000)))))
    return headers


def _client(peer: str) -> str:
    """The address in a peer's name, which is `ipv4:1.2.3.4:5` or `ipv6:[::1]:5`, percent-encoded."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
