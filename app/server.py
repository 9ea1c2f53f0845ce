"""The serving process: uvicorn with a drain that starts at the signal and ends with exit status 0."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from app.composition.service import Service
from app.core.errors import AdapterLoadError, DeviceError, ServiceError, StartupError
from app.http.bounded_h11 import ConnectionLimits, bounded_protocol
from app.http.cross_origin import CrossOrigin, parse_origins
from app.main import create_app
from app.startup import listening
from app.startup.descriptors import Shortages, lengthen_queues
from app.startup.known_variables import warn_of_unknown_variables
from app.startup.listening import Sockets
from app.startup.settings import Settings
from mtlora.vocabulary.errors import MTLoRAError

if TYPE_CHECKING:
    from app.rpc.server import RpcServer

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""A thread that runs Python holds the interpreter for so long at most while others want it. The engine gives it up and
takes it back at every operation, so a load beside it costs the forward pass up to so much, time and again."""

OK = 0
FAILED = 1
WRONG_SETTING = 2
"""Exit status where what the settings name does not fit together: another start would find the same."""


class Server(uvicorn.Server):
    """Stops admitting as soon as it is told to stop, and only then closes the port."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        config.backlog = 1  # see lengthen_queues
        super().__init__(config)
        self._service = service
        service.on_failure = self._give_up
        self._rpc: RpcServer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: unready at once; the port closes after the drain delay."""
        self._service.drain()
        delay = self._service.settings.drain_delay_s
        if delay and not self.should_exit and sig == signal.SIGTERM:
            timer = threading.Timer(delay, super().handle_exit, (sig, frame))
            timer.daemon = True
            timer.start()
        else:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port and say which."""
        shortages = Shortages(lambda: len(self.server_state.connections))
        asyncio.get_running_loop().set_exception_handler(shortages.handle)
        await super().startup(sockets)
        lengthen_queues(sock for server in self.servers for sock in server.sockets)
        for opened in (sock for server in self.servers for sock in server.sockets):
            host, port = opened.getsockname()[:2]
            log.info("listening", extra={"host": host, "port": port})
        await self._start_grpc()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, answer what is under way, say so."""
        if self._service.failure is None:
            log.info("draining", extra={"plain": "stopping: answering what is under way"})
        if self._rpc is not None:
            for server in self.servers:
                server.close()
            began = time.monotonic()
            await self._rpc.stop(self._service.settings.grace_s)
            left_s = self._service.settings.grace_s - (time.monotonic() - began)
            self.config.timeout_graceful_shutdown = max(1, round(left_s))
        await super().shutdown(sockets)
        if self._service.failure is None:
            log.info("stopped")

    async def _start_grpc(self) -> None:
        """Open gRPC's port too, where one is set; what needs its packages is imported only then."""
        settings = self._service.settings
        if settings.grpc_port is None or self.should_exit:
            return
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # nothing here forks without an exec
        from app.rpc.server import RpcServer

        self._rpc = RpcServer(self.config.loaded_app, settings, self._service.gatekeeper)
        try:
            await self._rpc.start()
        except StartupError as error:
            self._service.fail(error)
            log.error("cannot start", extra={"reason": str(error)})

    def _give_up(self) -> None:
        self.should_exit = True


def http_config(app: FastAPI, settings: Settings, connections: int | None = None) -> uvicorn.Config:
    """How uvicorn is to serve an application: strictly, within bounds, logging nothing of its own.

    connections: how many may be open, where it is not what the settings say
    """
    limits = ConnectionLimits(
        connections=connections or settings.max_connections,
        head_bytes=settings.max_header_bytes,
        head_timeout_s=settings.header_timeout_s,
        stall_timeout_s=settings.stall_timeout_s,
        origins=CrossOrigin(parse_origins(settings.cors_origins)),
    )
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=bounded_protocol(limits),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
    )


def run(settings: Settings, sockets: Sockets, connections: int | None = None) -> int:
    """Serve on these sockets, bound already, until told to stop; the process's exit status.

    connections: how many may be open, where it is not what the settings say
    """
    warn_of_unknown_variables(os.environ)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        app = create_app(settings)
        listening.listen(sockets)
    except (ServiceError, OSError) as error:
        listening.close(sockets)
        log.error("cannot start", extra={"reason": str(error)})
        return status_of(error)
    service: Service = app.state.service
    service.url = listening.url_of(sockets, settings.host)
    config = http_config(app, settings, connections)
    # uvicorn raises the signal again when it is done; a drained server has nothing to complain of.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    Server(config, service).run(list(sockets))
    return status_of(service.failure)


def status_of(failure: BaseException | None) -> int:
    """The exit status of a server that could not start; None: it could. A device may be well at the next start."""
    if failure is None:
        return OK
    lasting = isinstance(failure, MTLoRAError | StartupError | AdapterLoadError) and not isinstance(
        failure, DeviceError
    )
    return WRONG_SETTING if lasting else FAILED
