"""httpcore's network streams with a limit for the whole attempt: a byte now and then resets no timeout here."""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

from mtlora.client.limits import allowance

PIECE_BYTES = 262_144  # of a body; the time is looked at between them


def _time_s(timeout: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    """The timeout of one operation: as given, and not beyond the attempt's time."""
    running = allowance()
    if running is None:
        return timeout
    left_s = running.left_s()
    if left_s <= 0:
        raise late(running.words())
    return left_s if timeout is None else min(timeout, left_s)


def _received(count: int) -> None:
    running = allowance()
    if running is not None:
        running.received(count)


def _sent(count: int) -> None:
    running = allowance()
    if running is not None:
        running.sent(count)


def _pieces(buffer: bytes) -> Iterable[bytes]:
    return (buffer[start : start + PIECE_BYTES] for start in range(0, len(buffer), PIECE_BYTES))


class TimedStream(httpcore.NetworkStream):
    """For threads."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What is there, within the attempt's time."""
        data = self._inner.read(max_bytes, _time_s(timeout, httpcore.ReadTimeout))
        _received(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all, within the attempt's time."""
        for piece in _pieces(buffer):
            self._inner.write(piece, _time_s(timeout, httpcore.WriteTimeout))
            _sent(len(piece))

    def close(self) -> None:
        """Close it."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same, encrypted."""
        return TimedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What httpcore wants to know of the socket."""
        return self._inner.get_extra_info(info)


class TimedBackend(httpcore.SyncBackend):
    """Opens streams for threads."""

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        """A connection to a host and port."""
        return TimedStream(super().connect_tcp(*args, **kwargs))


class AsyncTimedStream(httpcore.AsyncNetworkStream):
    """For an event loop."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What is there, within the attempt's time."""
        data = await self._inner.read(max_bytes, _time_s(timeout, httpcore.ReadTimeout))
        _received(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all, within the attempt's time."""
        for piece in _pieces(buffer):
            await self._inner.write(piece, _time_s(timeout, httpcore.WriteTimeout))
            _sent(len(piece))

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """The same, encrypted."""
        return AsyncTimedStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What httpcore wants to know of the socket."""
        return self._inner.get_extra_info(info)


class AsyncTimedBackend(httpcore.AnyIOBackend):
    """Opens streams for an event loop."""

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        """A connection to a host and port."""
        return AsyncTimedStream(await super().connect_tcp(*args, **kwargs))
