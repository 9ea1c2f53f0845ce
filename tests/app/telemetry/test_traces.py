"""Traces, as a receiver of OTLP over HTTP gets them from a real server; and nothing of it where they are off."""

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from app.telemetry.traces import open_tracer, wanted
from testing.serving import (
    Live,
    ServerProcess,
    Weights,
    encoded,
    free_port,
    live_app,
    picture,
    settings_for,
    wait_until,
)

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["decode", "load", "queue", "forward", "encode"]


class Receiver:
    """Keeps the spans that are sent to it, by trace."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = defaultdict(list)
        self.resources: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans[span.trace_id.hex()].append(span)

    def trace(self, trace_id: str, spans: int) -> dict[str, list[Span]]:
        """The spans of a trace by name, once there are so many."""
        wait_until(lambda: len(self.spans[trace_id]) >= spans)
        named: dict[str, list[Span]] = defaultdict(list)
        for span in self.spans[trace_id]:
            named[span.name].append(span)
        return named


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture(scope="module")
def traced(weights: Weights, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with live_app(settings_for(weights, tmp_path_factory.mktemp("traced") / "s")) as live:
            yield live


def traceparent(number: int) -> tuple[str, dict[str, str]]:
    """A trace of its own for a test, and the header that starts it."""
    trace = f"{number:02x}{TRACE[2:]}"
    return trace, {"traceparent": f"00-{trace}-{PARENT}-01"}


def test_a_prediction_is_a_span_with_its_stages(traced: Live, receiver: Receiver) -> None:
    trace, header = traceparent(1)
    before = time.time_ns()
    answer = traced.client.post("/predict?adapter=people&tasks=saliency", content=PHOTO, headers={**JPEG, **header})
    after = time.time_ns()
    spans = receiver.trace(trace, 6)
    (request,) = spans.pop("POST /predict")
    assert request.parent_span_id.hex() == PARENT
    assert request.kind == Span.SPAN_KIND_SERVER
    assert before - 1e9 < request.start_time_unix_nano < request.end_time_unix_nano < after + 1e9
    told = attributes(request)
    assert told["http.request.method"] == "POST"
    assert (told["http.route"], told["http.response.status_code"]) == ("/predict", 200)
    assert (told["mtlora.adapter"], told["mtlora.revision"], told["mtlora.tasks"]) == ("people", 1, "saliency")
    assert (told["mtlora.format"], told["mtlora.request_id"]) == ("json", answer.headers["x-request-id"])
    assert spans.keys() == set(STAGES)
    timings, end = answer.json()["timings_ms"], request.start_time_unix_nano
    for stage in STAGES:
        (span,) = spans[stage]
        assert span.parent_span_id == request.span_id
        if stage != "encode":  # reckoned back from the end: on a busy machine what came before reaches into it
            assert end - 1e5 <= span.start_time_unix_nano  # one after the other
        assert span.end_time_unix_nano - span.start_time_unix_nano == pytest.approx(timings[stage] * 1e6, abs=2e4)
        end = span.end_time_unix_nano
    assert end <= request.end_time_unix_nano
    assert receiver.resources[0]["service.name"] == "mtlora-server"


def test_every_image_has_its_stages(traced: Live, receiver: Receiver) -> None:
    trace, header = traceparent(2)
    bad = b"no image"
    traced.client.post("/predict?tasks=saliency", files=[("image", p) for p in (PHOTO, bad, PHOTO)], headers=header)
    spans = receiver.trace(trace, 11)
    assert {stage: len(spans[stage]) for stage in STAGES} == dict.fromkeys(STAGES, 2)
    assert {attributes(span)["mtlora.image"] for span in spans["forward"]} == {0, 1}


def test_v2_is_named_by_its_route(traced: Live, receiver: Receiver) -> None:
    trace, header = traceparent(3)
    traced.client.get("/v2/models/people/versions/1", headers=header)
    (name,) = receiver.trace(trace, 1)
    assert name == "GET /v2/models/{model}/versions/{version}"


def test_refusals_are_spans_and_only_failures_are_errors(traced: Live, receiver: Receiver) -> None:
    trace, header = traceparent(4)
    traced.client.post("/predict?adapter=nobody", content=PHOTO, headers={**JPEG, **header})
    ((refused,),) = receiver.trace(trace, 1).values()
    assert attributes(refused)["http.response.status_code"] == 404
    assert refused.status.code == Status.STATUS_CODE_UNSET
    trace, header = traceparent(5)
    traced.client.post("/predict?deadline_ms=1", content=PHOTO, headers={**JPEG, **header})
    failed = receiver.trace(trace, 1)["POST /predict"][0]
    assert attributes(failed)["http.response.status_code"] == 504
    assert failed.status.code == Status.STATUS_CODE_ERROR


def test_the_caller_decides_whether_to_sample(traced: Live, receiver: Receiver) -> None:
    trace, _ = traceparent(6)
    traced.client.get("/tasks", headers={"traceparent": f"00-{trace}-{PARENT}-00"})
    last, header = traceparent(7)
    traced.client.get("/readyz", headers=header)
    traced.client.get("/tasks", headers=header)
    assert receiver.trace(last, 1).keys() == {"GET /tasks"}
    assert trace not in receiver.spans


@pytest.mark.parametrize(
    "sent", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", "00-" + "é" * 40, f"ff-{TRACE}-{PARENT}-01"]
)
def test_a_traceparent_that_is_none_starts_a_trace_of_its_own(traced: Live, receiver: Receiver, sent: str) -> None:
    known = set(receiver.spans)
    traced.client.get("/tasks", headers=[(b"traceparent", sent.encode())])
    wait_until(lambda: any(trace not in known for trace in receiver.spans))
    (new,) = set(receiver.spans) - known
    assert receiver.spans[new][0].parent_span_id == b""


def test_a_server_sends_the_rest_when_it_ends(
    weights: Weights, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    trace, header = traceparent(8)
    with live_app(settings_for(weights, tmp_path / "s")) as live:
        live.client.get("/tasks", headers=header)
        assert trace not in receiver.spans
    assert receiver.trace(trace, 1).keys() == {"GET /tasks"}


@pytest.mark.slow
def test_nobody_listening_costs_nothing_but_the_spans(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    server = ServerProcess(weights, tmp_path / "s")
    try:
        server.wait_ready()
        trace, header = traceparent(9)
        answer = httpx.post(f"{server.url}/predict", content=PHOTO, headers={**JPEG, **header}, timeout=30)
        assert answer.status_code == 200
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 6
        (line,) = [line for line in server.logged() if line["message"] == "request" and line["path"] == "/predict"]
        assert line["trace_id"] == trace
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_when_they_are_wanted(environ: dict[str, str], on: bool) -> None:
    assert wanted(environ) is on
    assert on or open_tracer(environ) is None


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.slow
def test_off_means_that_nothing_is_imported(missing: bool) -> None:
    """Without an endpoint; and with one, where the extra is not installed."""
    script = """
import sys
if sys.argv[1] == "True":
    sys.modules["opentelemetry.sdk"] = None
from app.main import create_app
from app.startup.settings import Settings
assert create_app(Settings()).state.service.tracer is None
heavy = ("opentelemetry.sdk", "opentelemetry.exporter")
print([name for name, module in sys.modules.items() if module and name.startswith(heavy)])
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    if missing:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    command = [sys.executable, "-c", script, str(missing)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    if missing:
        assert "pip install '.[otel]'" in done.stderr
    else:
        assert done.stdout.strip() == "[]"
