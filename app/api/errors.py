"""The table of exceptions and status codes. No other file knows both."""

import http
import logging
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from app.answers.form import to_json
from app.api.open_inference.schemas import EXTENSIONS, V2_PREFIX
from app.api.problem import PROBLEM_MEDIA_TYPE, Problem, ProblemItem, QuotaUse
from app.core import errors as e
from app.core.request_context import REQUEST_ID, context_of
from app.http.parameters import told

log = logging.getLogger(__name__)

METHOD_NOT_ALLOWED, PREDICT_PATH = 405, "/predict"
CLIENT_CLOSED_REQUEST = 499  # never reaches the client; logs and metrics tell it from real errors

STATUS_OF: dict[type[e.ServiceError], int] = {
    e.BadBodyError: 400,
    e.BadParameterError: 422,
    e.ParameterConflictError: 400,
    e.EmptyBodyError: 422,
    e.BodyTooLargeError: 413,
    e.BodyTooSlowError: 408,
    e.UnsupportedMediaError: 415,
    e.NotAcceptableError: 406,
    e.RangeNotSatisfiableError: 416,
    e.TooManyPixelsError: 413,
    e.ImageTooCostlyError: 422,
    e.BadImageError: 422,
    e.ImageTooCostlyError: 422,
    e.UnauthorizedError: 401,
    e.ForbiddenError: 403,
    e.AdapterNotFoundError: 404,
    e.AdapterConflictError: 409,
    e.AdapterRefusedError: 422,
    e.AdapterLoadError: 503,
    e.StoreFullError: 507,
    e.QueueFullError: 429,
    e.WaitTooLongError: 429,
    e.BodyMemoryError: 429,
    e.QuotaError: 429,
    e.DeviceMemoryError: 503,
    e.StoreUnavailableError: 503,
    e.NotReadyError: 503,
    e.DeadlineError: 504,
    e.ClientGoneError: CLIENT_CLOSED_REQUEST,
    e.InferenceError: 500,
    e.NonFiniteOutputError: 422,
    e.StartupError: 500,
    e.KeyFileError: 500,
    e.ConfigFileError: 500,
    e.SettingError: 500,
    e.DeviceError: 500,
}
REJECTION_OF: dict[type[e.ServiceError], str] = {
    e.QueueFullError: "queue_full",
    e.WaitTooLongError: "queue_age",
    e.BodyMemoryError: "body_memory",
    e.QuotaError: "quota",
    e.DeviceMemoryError: "device_memory",
    e.NotReadyError: "not_ready",
    e.DeadlineError: "deadline",
    e.ClientGoneError: "client_gone",
    e.BodyTooLargeError: "too_large",
    e.TooManyPixelsError: "too_large",
}
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


def problem_of(error: e.ServiceError, request_id: str) -> Problem:
    """The problem document of an error the service raised on purpose."""
    words = _WORD.sub(" ", type(error).__name__.removesuffix("Error")).lower()
    return Problem(
        type=f"urn:mtlora:problem:{words.replace(' ', '-')}",
        title=words.capitalize(),
        status=STATUS_OF[type(error)],
        detail=error.detail,
        request_id=request_id,
        errors=[ProblemItem(detail=problem) for problem in error.problems] or None,
        quota=QuotaUse(name=error.name, limit=error.limit, usage=error.usage)
        if isinstance(error, e.QuotaError)
        else None,
    )


def problem_response(path: str, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem as an HTTP answer, in the words that clients of that path expect."""
    if path == V2_PREFIX or path.startswith(f"{V2_PREFIX}/"):
        more = [item.detail for item in problem.errors or () if item.where is None]
        told = f"{problem.title}: {problem.detail}" + (f" ({'; '.join(more)})" if more else "")
        content = to_json({"error": told})
        return Response(content, problem.status, headers, "application/json")
    return Response(to_json(problem.document()), problem.status, headers, PROBLEM_MEDIA_TYPE)


def http_problem(status: int, detail: str, request_id: str, items: list[ProblemItem] | None = None) -> Problem:
    """The problem document of a plain HTTP error."""
    phrase = http.HTTPStatus(status).phrase
    kind = f"urn:mtlora:problem:{phrase.lower().replace(' ', '-')}"
    return Problem(type=kind, title=phrase, status=status, detail=detail, request_id=request_id, errors=items)


def request_id_of(request: Request) -> str:
    """The id that the middleware gave this request."""
    return str(request.scope.get(REQUEST_ID, ""))


def install(app: FastAPI, methods: Callable[[Scope], Sequence[str]]) -> None:
    """Make every error of the application a problem document.

    methods: those that the path of a request knows
    """
    app.add_exception_handler(e.ServiceError, service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, partial(_http_error, methods))


async def service_error(request: Request, error: Exception) -> Response:
    """The answer for an error that the service raised on purpose."""
    if not isinstance(error, e.ServiceError):
        raise TypeError(f"expected a ServiceError, got {type(error).__name__}") from error
    headers = {}
    if isinstance(error, e.BusyError | e.AdapterLoadError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, e.UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, e.RangeNotSatisfiableError):
        headers["Content-Range"] = f"bytes */{error.size}"
    reason = REJECTION_OF.get(type(error))
    asked_only = isinstance(error, e.NotReadyError) and context_of(request.scope).probe
    if reason is not None and not asked_only:
        request.app.state.service.metrics.rejected.labels(reason).inc()
    problem = problem_of(error, request_id_of(request))
    return _told(request, problem, headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    faults: list[dict[str, Any]] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    items = [ProblemItem(detail=f["msg"], where=".".join(map(str, f["loc"]))) for f in told(faults)]
    detail = "; ".join(f"{item.where}: {item.detail}" for item in items) or "the request makes no sense"
    status = 400 if any(f["type"] == "json_invalid" for f in faults) else 422
    return _told(request, http_problem(status, detail, request_id_of(request), items))


async def _http_error(methods: Callable[[Scope], Sequence[str]], request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(f"expected an HTTPException, got {type(error).__name__}") from error
    path = request.scope["path"]
    detail, headers = f"{request.method[:20]} {path[:200]}: {error.detail}", dict(error.headers or {})
    if error.status_code == METHOD_NOT_ALLOWED:  # the exception knows one of the routes that share the path
        headers["Allow"] = ", ".join(methods(request.scope))
        detail += f"; this path takes {headers['Allow']}"
        if path == PREDICT_PATH:
            detail += "; photos are sent with POST: curl -F image=@photo.jpg 'http://HOST:PORT/predict'"
    if error.status_code == http.HTTPStatus.NOT_FOUND and path.startswith(f"{V2_PREFIX}/"):
        detail += f"; of the protocol's extensions this server has {', '.join(EXTENSIONS)}"
    problem = http_problem(error.status_code, detail, request_id_of(request))
    return _told(request, problem, headers)


def _told(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The answer; its kind goes into the request's log line, and into the audit log if it is about a change."""
    context_of(request.scope).facts["problem"] = problem.kind
    return problem_response(request.scope["path"], problem, headers)
