"""Whence handlers get what they work with."""

from typing import Annotated

from fastapi import Depends, Request, Security, params
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.access import Caller, Scope
from app.middleware import RequestContext, context_of
from app.service import Parts, Service

_bearer = HTTPBearer(auto_error=False, description="an API key, where the server has any")
_header = APIKeyHeader(name="X-API-Key", auto_error=False)


def get_service(request: Request) -> Service:
    """The one service of this application."""
    service = request.app.state.service
    if not isinstance(service, Service):
        raise TypeError(f"app.state.service must be a Service, got {type(service).__name__}")
    return service


def get_context(request: Request) -> RequestContext:
    """What to tell the middleware."""
    return context_of(request.scope)


def require(scope: Scope) -> params.Depends:
    """A dependency that lets only keys with `scope` in, and says who it was; everyone where no keys are set."""

    def check(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        header: Annotated[str | None, Security(_header)],
    ) -> Caller:
        presented = bearer.credentials if bearer else header
        caller = get_service(request).gatekeeper.admit(presented, scope)
        if caller.label:
            get_context(request).facts["key"] = caller.label
        return caller

    dependency: params.Depends = Depends(check)
    return dependency


ServiceDep = Annotated[Service, Depends(get_service)]
ContextDep = Annotated[RequestContext, Depends(get_context)]


def get_parts(service: ServiceDep) -> Parts:
    """Parts for looking: available while starting up and draining."""
    return service.parts


def get_ready_parts(service: ServiceDep) -> Parts:
    """Parts for work and changes: 503 unless ready."""
    return service.require_ready()


PartsDep = Annotated[Parts, Depends(get_parts)]
ReadyDep = Annotated[Parts, Depends(get_ready_parts)]
