"""Facts about one request that its handler and the middleware share."""

from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from app.core.stages import Stages

CONTEXT = "mtlora.context"
REQUEST_ID = "mtlora.request_id"
PROTOCOL = "mtlora.protocol"  # of a request that did not come over HTTP


@dataclass(slots=True)
class RequestContext:
    """What handlers tell about a request for its headers, metrics and log line."""

    format: str = "other"
    prediction: bool = False
    probe: bool = False  # asks whether the server is ready, and wants nothing else
    change: str = ""  # what a request changes, or wants to: for the audit log
    stages_ms: dict[str, float] = field(default_factory=dict)
    images: tuple[Stages, ...] = ()  # of those that were answered
    facts: dict[str, Any] = field(default_factory=dict)  # adapter, revision, images, …


def context_of(scope: Scope) -> RequestContext:
    """The context of the request that a handler answers."""
    context = scope[CONTEXT]
    if not isinstance(context, RequestContext):
        raise TypeError(f"the request has no context, found {type(context).__name__}; is the middleware installed?")
    return context
