"""Whence handlers get what they work with. All of it is at hand, so nothing here goes through a thread."""

from typing import Annotated

from fastapi import Depends, Request, Security, params
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.access.keys import Caller, Scope
from app.context import RequestContext, context_of
from app.service import Parts, Service

_bearer = HTTPBearer(auto_error=False, description="an API key, where the server has any")
_header = APIKeyHeader(name="X-API-Key", auto_error=False)


async def get_service(request: Request) -> Service:
    """The one service of this application."""
    service = request.app.state.service
    if not isinstance(service, Service):
        raise TypeError(f"app.state.service must be a Service, got {type(service).__name__}")
    return service


async def get_context(request: Request) -> RequestContext:
    """What to tell the middleware."""
    return context_of(request.scope)


ServiceDep = Annotated[Service, Depends(get_service)]
ContextDep = Annotated[RequestContext, Depends(get_context)]


def require(scope: Scope, change: str = "") -> params.Depends:
    """A dependency that lets only keys with `scope` in, and says who it was; everyone where no keys are set.

    change: what the request is about to do, where it changes something: the audit log tells of it, even if refused
    """

    async def check(
        service: ServiceDep,
        context: ContextDep,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        header: Annotated[str | None, Security(_header)],
    ) -> Caller:
        context.change = change
        presented = bearer.credentials if bearer else header
        caller = service.gatekeeper.admit(presented, scope)
        if caller.label:
            context.facts |= {"key": caller.label, "namespace": caller.namespace}
        return caller

    dependency: params.Depends = Depends(check)
    return dependency


def changing(change: str) -> params.Depends:
    """A dependency for changes of adapter sets."""
    return require(Scope.ADAPTERS_WRITE, change)


async def get_parts(service: ServiceDep) -> Parts:
    """Parts for looking: available while starting up and draining."""
    return service.parts


async def get_ready_parts(service: ServiceDep) -> Parts:
    """Parts for work and changes: 503 unless ready."""
    return service.require_ready()


PartsDep = Annotated[Parts, Depends(get_parts)]
ReadyDep = Annotated[Parts, Depends(get_ready_parts)]
