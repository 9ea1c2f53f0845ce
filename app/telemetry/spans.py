"""Requests as OpenTelemetry spans, sent by OTLP over HTTP. Needs the extra `otel`; imported only when traces are on.

Spans are made when a request is over, from the times that it was measured by anyway: nothing of tracing is in its way.
"""

import os
import threading
import time

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.telemetry.request_trace import RequestTrace
from mtlora.version import __version__

CLOSE_S = 2.0  # for what is left to be sent, at the end
_SCALARS = (str, bool, int, float)


class SpanRecorder:
    """Sends a span for each request, with one for each stage of each image below it."""

    def __init__(self) -> None:
        name = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "mtlora-server"}
        self._exporter = OTLPSpanExporter()
        self._provider = TracerProvider(
            resource=Resource.create({**name, SERVICE_VERSION: __version__}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("mtlora", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, request: RequestTrace) -> str:
        """Make spans of a request that is over; `traceparent` says whose child it is."""
        epoch_s = time.time() - time.perf_counter()
        span = self._tracer.start_span(
            f"{request.method} {request.route}".strip(),
            self._propagator.extract(dict(request.headers), Context()),
            SpanKind.SERVER,
            _attributes(request),
            start_time=_nanoseconds(epoch_s + request.began_s),
        )
        within = set_span_in_context(span, Context())
        for number, stages in enumerate(request.images):
            for stage, began_s, ended_s in stages.intervals():
                child = self._tracer.start_span(
                    stage, within, attributes={"mtlora.image": number}, start_time=_nanoseconds(epoch_s + began_s)
                )
                child.end(_nanoseconds(epoch_s + ended_s))
        if request.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(epoch_s + request.ended_s))
        return format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Send what is left; blocks, but not for long where nobody takes it."""
        giving_up = threading.Timer(CLOSE_S, self._exporter.shutdown)
        giving_up.start()
        self._provider.shutdown()
        giving_up.cancel()


def _attributes(request: RequestTrace) -> dict[str, str | bool | int | float]:
    named: dict[str, str | bool | int | float] = {
        "http.request.method": request.method,
        "http.route": request.route,
        "url.path": request.path,
        "http.response.status_code": request.status,
    }
    return named | {f"mtlora.{key}": value for key, value in request.facts.items() if isinstance(value, _SCALARS)}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
