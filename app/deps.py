"""Whence handlers get what they work with."""

from typing import Annotated

from fastapi import Depends, Request

from app.middleware import RequestContext, context_of
from app.service import Parts, Service


def get_service(request: Request) -> Service:
    """The one service of this application."""
    service = request.app.state.service
    if not isinstance(service, Service):
        raise TypeError(f"app.state.service must be a Service, got {type(service).__name__}")
    return service


def get_context(request: Request) -> RequestContext:
    """What to tell the middleware."""
    return context_of(request.scope)


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
