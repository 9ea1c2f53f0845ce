"""The listening port: taken before anything slow begins, opened when there is somebody to answer."""

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import Any

from app.core.errors import SettingError

BACKLOG = 2048
TRIES = 10  # of a free port that must be free on every address of the host
Address = tuple[socket.AddressFamily, tuple[Any, ...]]
Sockets = Sequence[socket.socket]


def bind(host: str, port: int) -> Sockets:
    """Take the port on every address of the host; `SettingError` says why that cannot be.

    Until `listen` connections are refused at once, and nobody else gets the port.
    """
    addresses = _resolve(host, port)
    for _ in range(TRIES - 1):
        try:
            return _bind_all(addresses, port)
        except SettingError:
            if port or len(addresses) == 1:
                raise
    return _bind_all(addresses, port)


def listen(sockets: Sockets) -> None:
    """Open the port; from now on the kernel takes connections."""
    for taken in sockets:
        _reuse(taken, True)  # or connections of a former server that are not quite over would be in the way
        taken.listen(BACKLOG)


def close(sockets: Sockets) -> None:
    """Give the port back."""
    for taken in sockets:
        taken.close()


def url_of(sockets: Sockets, host: str) -> str:
    """Address of the page for a browser on this machine."""
    found, port = sockets[0].getsockname()[:2]
    if ipaddress.ip_address(found.partition("%")[0]).is_unspecified:
        host = "127.0.0.1" if sockets[0].family == socket.AF_INET else "::1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a name, such as one of 64 letters
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"{host!r} cannot be resolved: {reason}", setting="host") from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind_all(addresses: Sequence[Address], port: int) -> Sockets:
    """One socket for every address. A family that this machine has switched off is passed over, if another is not."""
    taken: list[socket.socket] = []
    last: OSError | None = None
    for family, (host, _, *scope) in addresses:
        port = taken[0].getsockname()[1] if taken else port
        try:
            taken.append(_bind_one(family, (host, port, *scope)))
        except OSError as error:
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                close(taken)
                raise _fault(error, host, port) from error
            last = error
    if not taken:
        raise _fault(last, addresses[0][1][0], port)
    return taken


def _bind_one(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    # asyncio sets TCP_NODELAY only on connections whose protocol is named; without it an answer can wait 40 ms for the
    # client's delayed acknowledgement.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        _reuse(taken, True)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(address)
        _reuse(taken, False)  # or whoever asks for the same may take it before we listen
    except OSError:
        taken.close()
        raise
    return taken


def _reuse(taken: socket.socket, wanted: bool) -> None:
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(wanted))


def _fault(error: OSError | None, host: str, port: int) -> SettingError:
    number = error.errno if error else None
    if number == errno.EADDRINUSE:
        return SettingError(f"{port} is in use on {host}; take another, or 0 for a free one", setting="port")
    if number in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return SettingError(f"{host} is not an address of this machine", setting="host")
    reason = os.strerror(number).lower() if number else str(error)
    return SettingError(f"{port} on {host}: {reason}{' (below 1024)' if port < 1024 else ''}", setting="port")
