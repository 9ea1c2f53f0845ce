"""The audit log: one line for each change that somebody made, or tried to make. Keys are never in it, only labels."""

import logging
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
    handler = WatchedFileHandler(path, encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
