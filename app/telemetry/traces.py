"""The switch for traces: OpenTelemetry's own environment variables. Imports nothing of it while they are off."""

import logging
import os
from collections.abc import Mapping
from typing import Protocol

from app.telemetry.request_trace import RequestTrace

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracer(Protocol):
    """Takes requests when they are over."""

    def record(self, request: RequestTrace) -> str:
        """Make spans of it, and say its trace's id."""

    def close(self) -> None:
        """Send what is left; blocks."""


def open_tracer(environ: Mapping[str, str] = os.environ) -> Tracer | None:
    """A tracer if an endpoint is set and the extra `otel` is installed, else None."""
    if not wanted(environ):
        return None
    try:
        from app.telemetry.spans import SpanRecorder
    except ImportError as error:
        reason = {"reason": str(error)}
        log.warning(
            "traces are off: the extra otel is not installed (in the repository: pip install '.[otel]')", extra=reason
        )
        return None
    return SpanRecorder()


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether an endpoint is set, and nothing says that it is not to be used."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER", "") == "none"
    return not off and any(environ.get(name) for name in ENDPOINTS)
