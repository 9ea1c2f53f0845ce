"""The connection to one server: its address, the key, and answers received within their limits."""

import os
from base64 import b64encode
from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from mtlora.client.calls import Call
from mtlora.client.limits import Limits, attempt
from mtlora.client.reply import Body, Reply
from mtlora.client.streams import AsyncTimedBackend, TimedBackend
from mtlora.version import __version__
from mtlora.vocabulary.errors import BadAnswerError, MTLoRAError, RemoteError
from mtlora.vocabulary.shown import shown

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "MTLORA_KEY"
CONNECT_TIMEOUT_S = 10.0
IDLE_S = 5.0  # after which an unused connection is not used again
ACCEPTED_CODINGS = "gzip, deflate"  # the server packs nothing, but what is in between may


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and how it is asked. Nothing here follows redirects or keeps cookies: a key goes nowhere else."""

    url: httpx.URL
    headers: tuple[tuple[str, str], ...]
    timeout_s: float
    connections: int

    @classmethod
    def make(cls, url: str, key: str | None, timeout_s: float, connections: int) -> "Address":
        """From what a client is given; `RemoteError` for what cannot be."""
        parsed = _parsed(url)
        if not timeout_s > 0 or connections < 1:
            raise RemoteError(f"need timeout_s > 0 and connections >= 1, got {timeout_s} and {connections}")
        headers = {"User-Agent": f"mtlora-client/{__version__}", "Accept-Encoding": ACCEPTED_CODINGS, "Accept": "*/*"}
        secret = _checked(os.environ.get(KEY_VARIABLE, "") if key is None else key)
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        elif parsed.userinfo:
            headers["Authorization"] = _basic(parsed)
        bare = parsed.copy_with(username=None, password=None, query=None, fragment=None)
        return cls(bare, tuple(headers.items()), timeout_s, connections)

    @contextmanager
    def request(self, call: Call[Any]) -> Iterator[httpx.Request]:
        """The request that a call is, with its file open."""
        timeouts = dict.fromkeys(("read", "write"), self.timeout_s)
        timeouts["connect"] = min(self.timeout_s, CONNECT_TIMEOUT_S)
        with call.arguments() as arguments:
            headers = {**dict(self.headers), **arguments.pop("headers")}
            address = f"{str(self.url).rstrip('/')}/{call.path}"
            try:
                request = httpx.Request(
                    call.method, address, headers=headers, extensions={"timeout": timeouts}, **arguments
                )
            except (ValueError, httpx.InvalidURL) as error:  # a name that is no Unicode, for instance
                raise RemoteError(f"{call.method} {shown(call.path)} cannot be asked: {shown(error)}") from error
            yield request

    def pool_options(self) -> dict[str, Any]:
        """Arguments of httpcore's pools."""
        return {
            "ssl_context": httpx.create_ssl_context() if self.url.scheme == "https" else None,
            "proxy": _proxy(self.url),
            "max_connections": self.connections,
            "keepalive_expiry": IDLE_S,
        }


Outcome = Reply | Exception
"""Of an attempt: the answer, or what kept it from coming."""


class Connections:
    """Connections to a server, for threads."""

    def __init__(self, address: Address, limits: Limits) -> None:
        self._address, self._limits = address, limits
        self._pool = httpcore.ConnectionPool(**address.pool_options(), network_backend=TimedBackend())

    def close(self) -> None:
        """Close them all."""
        self._pool.close()

    def ask(self, call: Call[Any]) -> Outcome:
        """One attempt. `BadAnswerError` if the answer is beyond its limits."""
        with self._address.request(call) as request, attempt(self._address.timeout_s) as allowed:
            try:
                response = self._pool.handle_request(_wire_request(request))
                try:
                    incoming = _Incoming(request, response, call, self._limits)
                    allowed.head_came(incoming.most)
                    with incoming.body() as body:
                        body.begin()
                        for part in cast(Iterable[bytes], response.stream):
                            body.take(part)
                    return incoming.reply()
                finally:
                    response.close()
            except MTLoRAError:
                raise
            except Exception as error:  # beside httpcore's own, an answer's head may lead to any: 5,000 digits, say
                return error


class AsyncConnections:
    """Connections to a server, for an event loop."""

    def __init__(self, address: Address, limits: Limits) -> None:
        self._address, self._limits = address, limits
        self._pool = httpcore.AsyncConnectionPool(**address.pool_options(), network_backend=AsyncTimedBackend())

    async def close(self) -> None:
        """Close them all."""
        await self._pool.aclose()

    async def ask(self, call: Call[Any]) -> Outcome:
        """One attempt. `BadAnswerError` if the answer is beyond its limits."""
        with self._address.request(call) as request, attempt(self._address.timeout_s) as allowed:
            try:
                response = await self._pool.handle_async_request(_wire_request(request))
                try:
                    incoming = _Incoming(request, response, call, self._limits)
                    allowed.head_came(incoming.most)
                    with incoming.body() as body:
                        body.begin()
                        async for part in cast(AsyncIterable[bytes], response.stream):
                            body.take(part)
                    return incoming.reply()
                finally:
                    await response.aclose()
            except MTLoRAError:
                raise
            except Exception as error:  # as above
                return error


class _Incoming:
    """An answer on its way in."""

    def __init__(self, request: httpx.Request, response: httpcore.Response, call: Call[Any], limits: Limits) -> None:
        self._url = shown(request.url.copy_with(query=None))
        self._status, self._headers = response.status, httpx.Headers(response.headers)
        self._accepted = response.status in call.accepted
        self.most = call.most(limits) if self._accepted else limits.refusal_bytes
        self._content = b""
        self._fault = ""

    @contextmanager
    def body(self) -> Iterator[Body]:
        """Takes the body in. What is wrong with a refusal's body leaves its status."""
        body = Body(self._url, self._headers, self.most)
        try:
            yield body
            self._content = body.whole()
        except BadAnswerError as error:
            if self._accepted:
                raise
            self._fault = str(error).removeprefix(f"{self._url}: ")

    def reply(self) -> Reply:
        """All of it."""
        return Reply(self._url, self._status, self._headers, self._content, self.most, self._fault)


def _wire_request(request: httpx.Request) -> httpcore.Request:
    return httpcore.Request(
        request.method,
        _wire_url(request.url),
        headers=request.headers.raw,
        content=cast(Iterable[bytes], request.stream),
        extensions=request.extensions,
    )


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        _ = urlsplit(url).port  # raises for a port, or brackets, that cannot be
    except (ValueError, httpx.InvalidURL) as error:
        raise RemoteError(f"a server's address looks like {DEFAULT_URL}, got {url!r}: {shown(error)}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise RemoteError(f"a server's address looks like {DEFAULT_URL}, got {url!r}")
    return parsed


def _checked(key: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RemoteError("the API key holds characters that no key has: spaces inside, control or non-ASCII ones")
    return key


def _basic(url: httpx.URL) -> str:
    return "Basic " + b64encode(f"{url.username}:{url.password}".encode()).decode("ascii")


def _proxy(url: httpx.URL) -> httpcore.Proxy | None:
    """The proxy that the environment names for an address, as for other programs."""
    named = getproxies()
    address = named.get(url.scheme) or named.get("all", "")
    if not address or proxy_bypass(url.netloc.decode("ascii")):
        return None
    try:
        proxy = httpx.URL(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL) as error:
        raise RemoteError(f"the environment names a proxy that is no address: {address!r}") from error
    auth = (proxy.username, proxy.password) if proxy.userinfo else None
    return httpcore.Proxy(_wire_url(proxy), auth=auth)


def _wire_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
