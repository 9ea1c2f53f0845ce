"""The FastAPI application: routes, errors, middleware, lifespan."""

import warnings
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.api import errors
from app.api.adapters.routes import router as adapters
from app.api.adapters.schemas import CurrentIn
from app.api.dependencies import door_of, methods_of
from app.api.health import router as health
from app.api.label_studio.routes import router as label_studio
from app.api.middleware import RequestMiddleware
from app.api.open_inference.repository import router as repository
from app.api.open_inference.repository_schemas import IndexIn, LoadIn, UnloadIn
from app.api.open_inference.routes import router as open_inference
from app.api.open_inference.schemas import InferIn, InferOut, V2ErrorOut
from app.api.predict.routes import router as predict
from app.api.predict.schemas import CocoOut, HfMaskOut, PredictManyOut, PredictOut
from app.api.problem import Problem
from app.api.tasks.routes import router as tasks
from app.composition.lifespan import lifespan
from app.composition.service import Service
from app.http.cross_origin import CrossOrigin, parse_origins
from app.http.forwarded import Forwarding
from app.startup.settings import Settings
from app.web.pages import router as pages
from mtlora.version import __version__

SUMMARY = "Dense prediction with one frozen backbone and many hot-swapped MTLoRA adapter sets."
# documented by reference, read or written as bytes
BEYOND_ROUTES = (
    Problem, PredictOut, PredictManyOut, HfMaskOut, CocoOut, CurrentIn, InferIn, InferOut, V2ErrorOut,
    IndexIn, LoadIn, UnloadIn,
)  # fmt: skip


def create_app(settings: Settings | None = None) -> FastAPI:
    """An application with a service of its own; nothing starts before its lifespan does."""
    service = Service(settings or Settings())
    app = FastAPI(
        title="mtlora server",
        summary=SUMMARY,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    app.state.service = service
    routers: list[APIRouter] = [predict, adapters, tasks, repository, open_inference, health, pages]
    if service.settings.label_studio:
        routers.append(label_studio)
    for router in routers:
        answer_head(router)
        app.include_router(router)
    routes = [route for router in routers for route in router.routes]
    errors.install(app, partial(methods_of, routes))
    doors = partial(door_of, routes)
    settings = service.settings
    app.add_middleware(
        RequestMiddleware,
        metrics=service.metrics,
        doors=doors,
        tracer=service.tracer,
        origins=CrossOrigin(parse_origins(settings.cors_origins)),
        forwarding=Forwarding(settings.forwarded_allow_ips, settings.root_path),
    )
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def operation_id(route: APIRoute) -> str:
    """What generated clients call a request: the handler's name, such as `uploadAdapter`."""
    first, *others = route.name.split("_")
    return first + "".join(word.capitalize() for word in others)


def answer_head(router: APIRouter) -> None:
    """Make a router answer HEAD wherever it answers GET: the same head, and no body, which uvicorn leaves out."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.methods is not None and "GET" in route.methods:
            route.methods.add("HEAD")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema with the bodies that handlers write as bytes; the first paragraph of a docstring is the summary."""
    if app.openapi_schema is None:
        with warnings.catch_warnings():  # that GET and HEAD of a path have one name; only the former is documented
            warnings.filterwarnings("ignore", "Duplicate Operation ID")
            schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in BEYOND_ROUTES:
            document = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(document.pop("$defs", {}))
            schemas[model.__name__] = document
        for operations in schema["paths"].values():
            operations.pop("head", None)
            for operation in operations.values():
                summary, _, rest = operation.pop("description").partition("\n\n")
                operation |= {"summary": summary.removesuffix("."), **({"description": rest} if rest else {})}
        app.openapi_schema = schema
    return app.openapi_schema
