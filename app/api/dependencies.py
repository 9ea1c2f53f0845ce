"""FastAPI dependencies: the service, its parts, the caller. Nothing here runs in a thread."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request, Security, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette import types
from starlette.routing import BaseRoute, Match

from app.access.keys import Caller, Scope
from app.api.open_inference.schemas import LENGTH_HEADER
from app.api.predict.schemas import LISTS, PARAMETERS
from app.composition.parts import Parts
from app.composition.service import Service
from app.core.errors import BadParameterError, ParameterConflictError
from app.core.request_context import RequestContext, context_of
from app.http.body_stream import announced_bytes
from app.http.parameters import HEADER, check_known, check_query, in_query

ADAPTER_HEADER = "x-adapter"
PARAMETER_HEADERS = frozenset({*(f"x-{name.replace('_', '-')}" for name in PARAMETERS), LENGTH_HEADER.lower()})
"""What is said to mean something here: whoever sends one of these asks for something."""

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


@dataclass(frozen=True, slots=True)
class Door:
    """A dependency that lets only keys with `scope` in, and says who it was; everyone where no keys are set.

    change: what the request is about to do, where it changes something: the audit log tells of it, even if refused
    prediction: whether it asks for one: metrics count it as such, even if refused
    any_query: parameters that nobody knows are ignored, in the query and in headers; else the request is refused
    no_body: a body is refused: what it says would be ignored
    """

    scope: Scope
    change: str = ""
    prediction: bool = False
    any_query: bool = False
    no_body: bool = False

    async def __call__(
        self,
        request: Request,
        service: ServiceDep,
        context: ContextDep,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        header: Annotated[str | None, Security(_header)],
    ) -> Caller:
        """Who asks; refused if they may not."""
        self.announce(context)
        presented = bearer.credentials if bearer else header
        caller = service.gatekeeper.admit(presented, self.scope, known=partial(_tell, context))
        if not self.any_query:
            if request.scope["query_string"]:
                check_query(in_query(request), known_query(request.scope["route"]), LISTS)
            check_headers(request)
        if self.no_body:
            check_no_body(request)
        return caller

    def announce(self, context: RequestContext) -> None:
        """What is wanted of the server, whatever becomes of it."""
        context.change, context.prediction = self.change, self.prediction
        if self.prediction:
            context.format = "none"


def _tell(context: RequestContext, caller: Caller) -> None:
    """Who it is, for log and audit."""
    context.facts |= {"key": caller.label, "namespace": caller.namespace}


def require(scope: Scope, change: str = "", **more: bool) -> params.Depends:
    """A dependency that is a `Door`; more: its other fields."""
    dependency: params.Depends = Depends(Door(scope, change, **more))
    return dependency


def door_of(routes: Iterable[BaseRoute], scope: types.Scope) -> Door | None:
    """The door that a request would come to, for one that is refused on its way there; it then has its path's names."""
    for route in routes:
        match, found = route.matches(scope)
        if match is Match.FULL and isinstance(route, APIRoute):
            scope["path_params"] = found["path_params"]
            return next((d.call for d in route.dependant.dependencies if isinstance(d.call, Door)), None)
    return None


def methods_of(routes: Iterable[BaseRoute], scope: types.Scope) -> list[str]:
    """Methods of all routes that a path is, of which there may be several; sorted."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, APIRoute) and route.matches(scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


async def probing(context: ContextDep) -> None:
    """A dependency of routes that only ask whether the server is ready: it may say no without having refused work."""
    context.probe = True


def known_query(route: APIRoute) -> tuple[str, ...]:
    """Names of the query parameters that a route's handler takes, or what it depends on."""
    names: list[str] = []
    for field in (field for one in _with_dependencies(route.dependant) for field in one.query_params):
        kind = field.field_info.annotation
        names += kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else [field.alias]
    return tuple(names)


def known_headers(route: APIRoute) -> tuple[str, ...]:
    """Names of the headers that a route's handler, or what it depends on, takes as parameters, in lower case."""
    return tuple(field.alias.lower() for one in _with_dependencies(route.dependant) for field in one.header_params)


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for below in dependant.dependencies:
        yield from _with_dependencies(below)


def check_headers(request: Request) -> None:
    """Refuse headers that are parameters elsewhere, or are called like one, where they would be ignored (422).

    `X-Adapter` may say what the path says (else 400).
    """
    known = known_headers(request.scope["route"])
    strange = [name for name in dict.fromkeys(request.headers) if name in PARAMETER_HEADERS and name not in known]
    if ADAPTER_HEADER in strange and (meant := _sets_in_path(request)):
        strange.remove(ADAPTER_HEADER)
        for text in request.headers.getlist(ADAPTER_HEADER):
            if text not in meant:
                raise ParameterConflictError(
                    f"the path means adapter set {meant[0][:80]!r}, the header X-Adapter {text[:80]!r}; leave one away"
                )
    check_known(HEADER, strange, known, "header parameter")


def _sets_in_path(request: Request) -> tuple[str, ...]:
    """How the set that a path names may be called: as there, by its name alone, and with the revision asked for."""
    path = request.path_params
    if named := path.get("name"):
        revision = request.query_params.get("revision")
    elif named := path.get("model"):
        revision = path.get("version")
    else:
        return ()
    return named, named.partition("@")[0], *([f"{named}@{revision}"] if revision else [])


def check_no_body(request: Request) -> None:
    """`BadParameterError` for a request with a body; the two bytes of an empty JSON object are none."""
    if "transfer-encoding" in request.headers or announced_bytes(request) > len("{}"):
        known = ", ".join(known_query(request.scope["route"])) or "none"
        raise BadParameterError(
            f"{request.method} {request.url.path[:200]} takes no body, which would be ignored; "
            f"its query parameters: {known}"
        )


def changing(change: str, *, body: bool = False) -> params.Depends:
    """A dependency for changes of adapter sets; `body`: whether the change is described in one."""
    return require(Scope.ADAPTERS_WRITE, change, no_body=not body)


async def get_parts(service: ServiceDep) -> Parts:
    """Parts for looking: available while starting up and draining."""
    return service.parts


async def get_ready_parts(service: ServiceDep) -> Parts:
    """Parts for work and changes: 503 unless ready."""
    return service.require_ready()


PartsDep = Annotated[Parts, Depends(get_parts)]
ReadyDep = Annotated[Parts, Depends(get_ready_parts)]
