"""The audit log: one line for each change that somebody made, or tried to make. Keys are never in it, only labels."""

import logging
import os
from io import FileIO, TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from app.telemetry.logs import JsonFormatter

log = logging.getLogger("mtlora.audit")
log.setLevel(logging.INFO)  # whatever else is logged


def record(action: str, outcome: str, **facts: Any) -> None:
    """One line: what was done (`outcome` done), or was not (refused, failed), and everything worth knowing about it."""
    log.info(action, extra={"action": action, "outcome": outcome, **facts})


def add_audit_file(path: Path) -> None:
    """Append every further line to a file too; one that is moved away (logrotate) is made anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    handler = _AuditFile(path, encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)


class _AuditFile(WatchedFileHandler):
    """Opened without waiting: a pipe that nobody reads is an `OSError`, at the start and whenever it is opened anew."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return TextIOWrapper(
            FileIO(open_to_append(self.baseFilename, flags), "a"), encoding=self.encoding, write_through=True
        )


def open_to_append(path: str, flags: int) -> int:
    """A descriptor to write to; `OSError` (ENXIO) at once for a pipe that nobody reads."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o600)
    os.set_blocking(descriptor, True)
    return descriptor
