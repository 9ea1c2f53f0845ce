"""The application: routes, errors, middleware, life cycle."""

from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app import error_handlers
from app.api import adapters, health, home, predict, tasks, v2
from app.deps import door_of
from app.lifespan import lifespan
from app.middleware import RequestMiddleware
from app.schemas.adapters import CurrentIn
from app.schemas.predict import CocoOut, HfMaskOut, PredictManyOut, PredictOut
from app.schemas.problem import Problem
from app.schemas.v2 import InferIn, InferOut, V2ErrorOut
from app.service import Service
from app.settings import Settings
from mtlora.version import __version__

SUMMARY = "Dense prediction with one frozen backbone and many hot-swapped MTLoRA adapter sets."
# documented by reference, read or written as bytes
BEYOND_ROUTES = (Problem, PredictOut, PredictManyOut, HfMaskOut, CocoOut, CurrentIn, InferIn, InferOut, V2ErrorOut)


def create_app(settings: Settings | None = None) -> FastAPI:
    """An application with a service of its own; nothing starts before its lifespan does."""
    service = Service(settings or Settings())
    app = FastAPI(
        title="MTLoRA server",
        summary=SUMMARY,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    routers = [module.router for module in (predict, adapters, tasks, v2, health, home)]
    for router in routers:
        app.include_router(router)
    error_handlers.install(app)
    doors = partial(door_of, [route for router in routers for route in router.routes])
    app.add_middleware(RequestMiddleware, metrics=service.metrics, doors=doors, tracer=service.tracer)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema with the bodies that handlers write as bytes; the first paragraph of a docstring is the summary."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in BEYOND_ROUTES:
            document = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(document.pop("$defs", {}))
            schemas[model.__name__] = document
        for operations in schema["paths"].values():
            for operation in operations.values():
                summary, _, rest = operation.pop("description").partition("\n\n")
                operation |= {"summary": summary.removesuffix("."), **({"description": rest} if rest else {})}
        app.openapi_schema = schema
    return app.openapi_schema
