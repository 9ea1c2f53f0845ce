"""The limit of file descriptors: enough for the connections that may be open, or fewer connections."""

import asyncio
import logging
import resource
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from app.core.errors import StartupError

log = logging.getLogger(__name__)

OWN = 40
"""What the process has open beside connections: some of its own, and files of sets that arrive or are read."""
DECODER_EACH = 2
"""Of a process that decodes photos: its channel and its shared memory."""
FILE_EACH = 2
"""What a connection may need: its socket, and the file that it is given."""
LEAST_CONNECTIONS = 8
BACKLOG = 2048  # connections that the kernel keeps until they are taken
TELL_AGAIN_S = 60.0


def make_room(connections: int, decoders: int = 0) -> int:
    """How many connections there can be beside decoder processes: as asked, unless the limit of open files is lower.

    The soft limit is raised as far as that takes and the hard limit allows. `StartupError` if only a handful remain.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    own = OWN + DECODER_EACH * decoders
    wanted = own + FILE_EACH * connections
    if soft < wanted and soft != hard:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = min(connections, soft - own)
    remedy = f"raise the limit of open files (ulimit -n, LimitNOFILE, nofile) to {wanted}"
    if room < min(connections, LEAST_CONNECTIONS):
        raise StartupError(f"{soft} files may be open, which leaves {max(0, room)} for connections; {remedy}")
    if room < connections:
        log.warning("fewer connections than max_connections: %s, or lower it to %d", remedy, room, extra={"room": room})
    return room


def lengthen_queues(sockets: Iterable[Any]) -> None:
    """Let the kernel keep many connections that have not been taken, though asyncio takes them one by one.

    asyncio uses one number for both, and where descriptors are short its loop of that many attempts goes on to the
    end, with a message and a timer for each.
    """
    for sock in sockets:
        with socket.fromfd(sock.fileno(), sock.family, sock.type) as same:
            same.listen(BACKLOG)


class Shortages:
    """Says that connections cannot be taken for want of descriptors: now and then, and how often it happened."""

    def __init__(self, connected: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._connected = connected
        self._clock = clock
        self._missed = 0
        self._tell_at = clock()

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An event loop's exception handler; whatever else happens is handled as always."""
        if "socket.accept()" not in str(context.get("message", "")):
            loop.default_exception_handler(context)
            return
        self._missed += 1
        if (now := self._clock()) >= self._tell_at:
            self._tell_at = now + TELL_AGAIN_S
            facts = {"times": self._missed, "connections": self._connected(), "reason": str(context.get("exception"))}
            log.error("cannot take connections; trying again every second", extra=facts)
            self._missed = 0
