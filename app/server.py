"""The serving process: uvicorn with a drain that starts at the signal and ends with exit status 0."""

import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.known_variables import warn_of_unknown_variables
from app.main import create_app
from app.protocol import ConnectionLimits, bounded_protocol
from app.service import Service
from app.settings import Settings
from app.telemetry.logs import set_up_logs

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""A thread that runs Python holds the interpreter for so long at most while others want it. The engine gives it up and
takes it back at every operation, so a load beside it costs the forward pass up to so much, time and again."""

OK = 0
FAILED = 1


class Server(uvicorn.Server):
    """Stops admitting as soon as it is told to stop, and only then closes the port."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        service.on_failure = self._give_up

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
        await super().startup(sockets)
        for listening in (sock for server in self.servers for sock in server.sockets):
            host, port = listening.getsockname()[:2]
            log.info("listening", extra={"host": host, "port": port})

    def _give_up(self) -> None:
        self.should_exit = True


def http_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn is to serve an application: strictly, within bounds, logging nothing of its own."""
    limits = ConnectionLimits(
        connections=settings.max_connections,
        head_bytes=settings.max_header_bytes,
        head_timeout_s=settings.header_timeout_s,
        stall_timeout_s=settings.stall_timeout_s,
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


def run(settings: Settings) -> int:
    """Serve until told to stop; the process's exit status."""
    set_up_logs(settings.log_level)
    warn_of_unknown_variables(os.environ)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app = create_app(settings)
    service: Service = app.state.service
    config = http_config(app, settings)
    # uvicorn raises the signal again when it is done; a drained server has nothing to complain of.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    Server(config, service).run()
    return OK if service.failure is None else FAILED
