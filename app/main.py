"""The FastAPI application: routes, errors, middleware, lifespan."""

from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from app.api import errors
from app.api.adapters.routes import router as adapters
from app.api.adapters.schemas import CurrentIn
from app.api.dependencies import door_of
from app.api.health import router as health
from app.api.middleware import RequestMiddleware
from app.api.open_inference.routes import router as open_inference
from app.api.open_inference.schemas import InferIn, InferOut, V2ErrorOut
from app.api.predict.routes import router as predict
from app.api.predict.schemas import CocoOut, HfMaskOut, PredictManyOut, PredictOut
from app.api.problem import Problem
from app.api.tasks.routes import router as tasks
from app.composition.lifespan import lifespan
from app.composition.service import Service
from app.startup.settings import Settings
from app.web.pages import router as pages
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
    routers: list[APIRouter] = [predict, adapters, tasks, open_inference, health, pages]
    for router in routers:
        app.include_router(router)
    errors.install(app)
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
