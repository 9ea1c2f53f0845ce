"""The middleware around every request: its id, timings, metrics and log line, and an answer even to a bug."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.dependencies import Door
from app.api.errors import http_problem, problem_response, service_error
from app.core.errors import NotReadyError
from app.core.request_context import CONTEXT, PROTOCOL, REQUEST_ID, RequestContext, context_of
from app.http.cross_origin import CrossOrigin, preflight_headers
from app.http.forwarded import PEER, Forwarding
from app.http.header_checks import fault_of
from app.http.targets import EVERYTHING, path_of, target_fault
from app.telemetry import audit
from app.telemetry.metrics import Metrics
from app.telemetry.request_trace import RequestTrace
from app.telemetry.traces import Tracer

log = logging.getLogger("app.requests")

_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,128}")
METHODS = "DELETE, GET, HEAD, OPTIONS, POST, PUT"
ENDED = "the server is shutting down, and did not finish this request in the time it had for it; ask again"
ENDED_RETRY_S = 2.0
_QUIET = ("/livez", "/readyz", "/v2/health/", "/metrics", "/favicon.ico", "/static/")


class RequestMiddleware:
    """Plain ASGI, so that streaming and disconnects pass through untouched."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        doors: Callable[[Scope], Door | None],
        tracer: Tracer | None = None,
        origins: CrossOrigin | None = None,
        forwarding: Forwarding | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._doors = doors
        self._tracer = tracer
        self._origins = origins or CrossOrigin()
        self._forwarding = forwarding or Forwarding()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        context = scope[CONTEXT] = RequestContext()
        asked = Headers(scope=scope)
        request_id = scope[REQUEST_ID] = _request_id(asked)
        self._forwarding.apply(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["Server-Timing"] = _server_timing(context, time.perf_counter() - start)
                for name, value in self._origins.headers(asked.get("origin")).items():
                    headers.add_vary_header(value) if name == "Vary" else headers.update({name: value})
            await send(message)

        try:
            with self._metrics.inflight.track_inprogress():
                await self._answer(scope, receive, send_with_headers)
        except asyncio.CancelledError:  # only a server that ends cancels requests: what they may still take is over
            if status:
                context.facts["cut_off"] = True
            else:
                response = await service_error(Request(scope), NotReadyError(ENDED, ENDED_RETRY_S))
                await response(scope, receive, send_with_headers)
        except Exception:  # the last resort: a bug becomes a documented answer, and its trace is in the log
            log.exception("unhandled error", extra={"request_id": request_id, "path": scope["path"][:200]})
            if status:
                raise
            problem = http_problem(500, "the server failed; the log has the details", request_id)
            await problem_response(scope["path"], problem)(scope, receive, send_with_headers)
        finally:
            self._account(scope, context, request_id, status or 500, start)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = scope.get("raw_path") or scope["path"].encode()
        fault = fault_of(scope["headers"], scope.get("http_version", "")) or target_fault(scope["method"], target)
        if target != EVERYTHING and (path := path_of(target, self._forwarding.own_path)) != target:
            scope["raw_path"], scope["path"] = path, unquote(path.decode("latin-1"))
        if fault is not None:
            # What stands behind such a head on this connection is anybody's guess, so nobody listens to it.
            context = context_of(scope)
            if door := self._doors(scope):
                door.announce(context)
            problem = http_problem(*fault, scope[REQUEST_ID])
            context.facts["problem"] = problem.kind
            await problem_response(scope["path"], problem, {"Connection": "close"})(scope, receive, send)
        elif self._origins.is_preflight(scope["method"], asked := Headers(scope=scope)):
            await self._preflight(scope, asked)(scope, receive, send)
        elif target == EVERYTHING:
            await Response(None, 204, {"Allow": METHODS})(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _preflight(self, scope: Scope, asked: Headers) -> Response:
        """The answer to a browser that asks whether a page may ask, for which it has no key."""
        if self._origins.allowed(asked["origin"]):
            return Response(None, 204, preflight_headers(asked))
        origin = asked["origin"][:200]
        said = f"pages of origin {origin!r} may not use this server; MTLORA_CORS_ORIGINS lists those that may"
        return problem_response(scope["path"], http_problem(403, said, scope[REQUEST_ID]))

    def _account(self, scope: Scope, context: RequestContext, request_id: str, status: int, start: float) -> None:
        ended = time.perf_counter()
        seconds = ended - start
        self._metrics.requests.labels(str(status), context.format).inc()
        if context.prediction:
            self._metrics.request_seconds.observe(seconds)
        if context.change:
            self._audit(scope, context, request_id, status)
        quiet = scope["path"].startswith(_QUIET)
        if self._tracer is not None and not quiet:
            request = RequestTrace(
                method=scope["method"][:20],
                route=str(getattr(scope.get("route"), "path", "")),
                path=scope["path"][:200],
                status=status,
                began_s=start,
                ended_s=ended,
                images=context.images,
                facts={"request_id": request_id, "format": context.format, **context.facts},
                headers=Headers(scope=scope),
            )
            context.facts["trace_id"] = self._tracer.record(request)
        level = logging.DEBUG if quiet and not 400 <= status < 500 else logging.INFO
        log.log(
            level,
            "request",
            extra={
                "request_id": request_id,
                "method": scope["method"][:20],
                "path": scope["path"][:200],
                "status": status,
                "client": _client(scope),
                "total_ms": round(seconds * 1000, 2),
                "format": context.format,
                "stages_ms": context.stages_ms,
                **_way(scope),
                **context.facts,
            },
        )

    def _audit(self, scope: Scope, context: RequestContext, request_id: str, status: int) -> None:
        outcome = "done" if status < 400 else "refused" if status < 500 else "failed"
        named = str(scope.get("path_params", {}).get("name", ""))[:80]  # replaced by the full name once it is known
        facts = {"client": _client(scope), **_way(scope), "adapter": named, **context.facts}
        audit.record(context.change, outcome, status=status, request_id=request_id, **facts)


def _client(scope: Scope) -> str:
    """The address that a request came from, as a trusted proxy says, where there is one."""
    client = scope.get("client")
    return client[0] if client else ""


def _way(scope: Scope) -> dict[str, str]:
    """How a request came: the trusted proxy that said whose it is, and the protocol if it is not HTTP."""
    return {name: scope[key] for name, key in (("proxy", PEER), ("protocol", PROTOCOL)) if key in scope}


def _request_id(headers: Headers) -> str:
    """The client's own id if it is harmless in a header and a log line, else a fresh one."""
    sent = headers.get("x-request-id", "")
    return sent if _CLIENT_ID.fullmatch(sent) else uuid.uuid4().hex


def _server_timing(context: RequestContext, seconds: float) -> str:
    timings = {**context.stages_ms, "total": round(seconds * 1000, 2)}
    return ", ".join(f"{name};dur={value:g}" for name, value in timings.items())
