"""Photos fetched from the one site that the operator named. Nothing that a client sends chooses where to connect.

A client gives a path below the site's `/data/`, or the same with the site's own address before it. The name is looked
up once for each request, the addresses are checked, and one of them is connected to: between check and connection no
second look-up can give another. Redirects are not followed, cookies not kept, proxies of the environment not used.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from app.core.errors import BadParameterError

DATA_PATH = "/data/"
_SEGMENTS_UP = {"..", "%2e%2e", ".%2e", "%2e."}
_CONNECT_S = 5.0
_PORTS = {"http": 80, "https": 443}
_JWT_PARTS = 3


class Site(NamedTuple):
    """Scheme, host and port of a site."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of what is fetched for one request. `on_bytes`: told of the size of every chunk, and may refuse it."""

    bytes: int
    timeout_s: float
    on_bytes: Callable[[int], object]


def parse_site(url: str) -> Site:
    """A site from its address; `ValueError` where it has more than scheme, host and port."""
    parts = urlsplit(url)
    port = parts.port  # ValueError of its own
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise ValueError(f"must be http:// or https://, a host and perhaps a port, got {url[:80]!r}")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"must end behind host and port, got {url[:80]!r}")
    return Site(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def path_on(site: Site, reference: str) -> str:
    """Path and query of a photo; `BadParameterError` where it lies on another site, or not below `/data/`."""
    try:
        parts = urlsplit(reference)
        own = not parts.netloc or parse_site(f"{parts.scheme}://{parts.netloc}") == site
    except ValueError:
        own = False
    if not own or (parts.scheme and not parts.netloc):
        raise BadParameterError(f"photos are fetched from {site} only, not from {reference[:80]!r}")
    segments = {segment.lower() for segment in parts.path.split("/")}
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    if not parts.path.startswith(DATA_PATH) or segments & _SEGMENTS_UP or "\\" in target or not reference.isprintable():
        raise BadParameterError(f"photos are fetched from below {DATA_PATH} only, not from {parts.path[:80]!r}")
    return target


class PhotoSite:
    """A site, for one request. Made by `opened`."""

    def __init__(self, site: Site, address: str, client: httpx.AsyncClient, bounds: Bounds) -> None:
        self._site = site
        self._address = f"[{address}]" if ":" in address else address
        self._client = client
        self._bounds = bounds
        self._headers: dict[str, str] = {}

    async def authorize(self, token: str) -> None:
        """Send a token from now on; of one that is only good for getting another, that other one."""
        if token.count(".") + 1 != _JWT_PARTS:
            self._headers = {"Authorization": f"Token {token}"}
            return
        response = await self._client.send(self._request("POST", "/api/token/refresh/", json={"refresh": token}))
        try:
            access = response.json()["access"]
        except (ValueError, KeyError, TypeError):
            raise BadParameterError(
                f"{self._site} gave no access for the token: status {response.status_code}"
            ) from None
        self._headers = {"Authorization": f"Bearer {access}"}

    async def get(self, reference: str) -> bytes:
        """The bytes of a photo; `BadParameterError` where there are none, or too many."""
        request = self._request("GET", path_on(self._site, reference))
        try:
            async with asyncio.timeout(self._bounds.timeout_s):
                response = await self._client.send(request, stream=True)
                try:
                    return await self._read(response, reference)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise BadParameterError(f"{reference[:80]!r} did not come within {self._bounds.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise BadParameterError(f"{reference[:80]!r} cannot be fetched: {type(error).__name__}") from None

    async def _read(self, response: httpx.Response, reference: str) -> bytes:
        if response.status_code != httpx.codes.OK:
            raise BadParameterError(f"{self._site} answers {response.status_code} for {reference[:80]!r}")
        pieces, size = [], 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > self._bounds.bytes:
                raise BadParameterError(f"{reference[:80]!r} has more than {self._bounds.bytes} bytes")
            self._bounds.on_bytes(len(chunk))
            pieces.append(chunk)
        return b"".join(pieces)

    def _request(self, method: str, target: str, json: object = None) -> httpx.Request:
        """To the address that was checked, as a request for the site."""
        host = str(self._site).partition("://")[2]
        return self._client.build_request(
            method,
            f"{self._site.scheme}://{self._address}:{self._site.port}{target}",
            headers={**self._headers, "Host": host, "Accept-Encoding": "identity"},
            json=json,
            extensions={"sni_hostname": self._site.host},
        )


@asynccontextmanager
async def opened(site: Site, bounds: Bounds) -> AsyncIterator[PhotoSite]:
    """A site to fetch from; `BadParameterError` where it has no address that may be connected to."""
    address = await _address(site)
    verify = _certificates() if site.scheme == "https" else False
    timeout = httpx.Timeout(bounds.timeout_s, connect=_CONNECT_S)
    async with httpx.AsyncClient(verify=verify, timeout=timeout, trust_env=False, follow_redirects=False) as client:
        yield PhotoSite(site, address, client, bounds)


async def _address(site: Site) -> str:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(site.host, site.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BadParameterError(f"{site} has no address: {error.strerror or error}") from None
    for *_, place in found:
        if may_connect(str(place[0])):
            return str(place[0])
    raise BadParameterError(f"no address of {site} may be connected to")


def may_connect(address: str) -> bool:
    """Not to addresses that no Label Studio has: of one link (clouds keep their secrets there), of many, of nobody.

    Private ones are allowed: the operator named the host, and beside this server is where it usually is.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    reserved = found.is_reserved and not found.is_loopback
    return not (found.is_link_local or found.is_multicast or found.is_unspecified or reserved)


@cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()
