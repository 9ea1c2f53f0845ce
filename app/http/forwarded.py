"""Proxies in front: whom to believe where a request comes from, and under which path the proxy shows the server.

`X-Forwarded-For` and `X-Forwarded-Prefix` count from peers that the settings trust, and from nobody else: anybody can
send them. Host and scheme are never taken from a request: answers have no URL that would need them.
"""

import ipaddress
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

PREFIX = "mtlora.prefix"
PEER = "mtlora.peer"
ANYBODY = "*"
OWN_PATHS = frozenset(
    {"predict", "adapters", "tasks", "v2", "docs", "static", "livez", "readyz", "metrics", "openapi.json"}
)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_MOST_PREFIX = 200
_MOST_ADDRESSES = 50  # of a chain of proxies that are looked at
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Forwarding:
    """What the settings say of proxies: those that are trusted, and the path that is put before the server's own."""

    def __init__(self, trusted: str = "", root_path: str = "") -> None:
        """trusted: comma list of addresses and networks, or `*`; `ValueError` if it is none"""
        self._anybody, self._networks = parse_networks(trusted)
        self._root = root_path

    def apply(self, scope: Scope) -> None:
        """Put the client's own address and the prefix into a request's scope, as far as they are to be believed."""
        scope[PREFIX], peer = self._root, scope.get("client")
        if not peer or not self.trusts(peer[0]):
            return
        headers = Headers(scope=scope)
        client = self.client(peer[0], ",".join(headers.getlist("x-forwarded-for")).split(","))
        if client != peer[0]:
            scope["client"], scope[PEER] = (client, 0), peer[0]
        if not self._root and (said := set(headers.getlist("x-forwarded-prefix"))):
            scope[PREFIX] = _prefix(said.pop()) if len(said) == 1 else ""

    def trusts(self, host: str) -> bool:
        """Whether this peer is a proxy of ours."""
        if self._anybody:
            return True
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)

    def client(self, peer: str, chain: Sequence[str]) -> str:
        """The nearest address that is no proxy of ours, of those that the proxies passed on.

        chain: the farthest first, as each proxy adds the one that it saw; what is no address ends it
        """
        nearest = peer
        for said in reversed(chain[-_MOST_ADDRESSES:]):
            address = _address(said.strip())
            if address is None:
                break
            nearest = str(address)
            if not self.trusts(nearest):
                break
        return nearest

    def own_path(self, path: bytes) -> bytes:
        """The server's own path, of one that may still begin with the root path: some proxies take it off, some not."""
        root = self._root.encode()
        if not root:
            return path
        if path == root:
            return b"/"
        return path[len(root) :] if path.startswith(root + b"/") else path


def prefix_of(scope: Scope) -> str:
    """What stands before the server's own paths where its clients see them; empty: nothing."""
    return str(scope.get(PREFIX, ""))


def check_root_path(path: str) -> str:
    """The path without a slash at its end; `ValueError` if it cannot be one."""
    trimmed = path.rstrip("/")
    if not trimmed:
        return ""
    if _prefix(trimmed) != trimmed:
        raise ValueError(f"must be a path such as /vision, of letters, digits and ._~-, got {path[:80]!r}")
    if trimmed.split("/")[1] in OWN_PATHS:
        raise ValueError(
            f"must not begin like a path of the server's own, got {path[:80]!r}; take another, or two levels"
        )
    return trimmed


def parse_networks(text: str) -> tuple[bool, tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]]:
    """Whether all are trusted, and the networks that are; `ValueError` says what is neither address nor network."""
    networks = []
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    for entry in entries:
        if entry == ANYBODY:
            continue
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            raise ValueError(
                f"proxies are addresses or networks, such as 127.0.0.1, 10.0.0.0/8 or ::1, got {entry[:80]!r}"
            ) from None
    return ANYBODY in entries, tuple(networks)


def _prefix(said: str) -> str:
    """A prefix as a proxy says it; empty if it is none, such as one that would lead to another host."""
    path = said.strip().rstrip("/")
    dots = {".", ".."}.intersection(path.split("/"))
    return path if len(path) <= _MOST_PREFIX and _PREFIX.fullmatch(path) and not dots else ""


def _address(text: str) -> Address | None:
    """An address, with or without a port; None if it is none."""
    found = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((found[1] or found[2]) if found else text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
