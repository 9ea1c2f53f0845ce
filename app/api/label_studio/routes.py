"""The handlers of /label-studio: an adapter set as an ML backend, as Label Studio's own SDK would serve it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel
from starlette.responses import Response

from app.access.keys import Caller, Scope
from app.api.dependencies import ContextDep, ReadyDep, ServiceDep
from app.api.label_studio.codec import LabelStudioCodec, Sources
from app.api.label_studio.door import BasicDoor
from app.api.problem import problem_responses
from app.composition.parts import Parts
from app.http.body_stream import bounded_stream, read_all

router = APIRouter(prefix="/label-studio/{model}", tags=["label studio"])

MODEL_CLASS = "mtlora"
Model = Annotated[str, Path(description="NAME or NAME@REVISION of an adapter set", examples=["default"])]
Looker = Annotated[Caller, Depends(BasicDoor(Scope.PREDICT, any_query=True))]
Predictor = Annotated[Caller, Depends(BasicDoor(Scope.PREDICT, prediction=True, any_query=True))]
LOOKED_AT = problem_responses(401, 403, 404, 422, 429, 503)
PREDICTED = problem_responses(400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504)
TASKS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["tasks"],
                    "properties": {
                        "tasks": {"type": "array", "items": {"type": "object"}},
                        "label_config": {"type": "string"},
                    },
                }
            }
        },
    }
}


class HealthOut(BaseModel):
    """Whether the backend can be used, in Label Studio's words."""

    status: str = "UP"
    model_class: str = MODEL_CLASS


class SetupOut(BaseModel):
    """Which revision answers."""

    model_version: str


@router.get("", responses=LOOKED_AT)
@router.get("/health", responses=LOOKED_AT)
async def label_studio_health(model: Model, caller: Looker, parts: ReadyDep) -> HealthOut:
    """Whether the adapter set is there."""
    await _version(model, caller, parts)
    return HealthOut()


@router.post("/setup", responses=LOOKED_AT)
async def label_studio_setup(
    request: Request, model: Model, caller: Looker, parts: ReadyDep, service: ServiceDep
) -> SetupOut:
    """The revision that answers. Host name and token that Label Studio sends are not used: the operator sets both."""
    s = service.settings
    await read_all(bounded_stream(request, limit=s.max_body_bytes, timeout_s=s.body_timeout_s))
    return SetupOut(model_version=await _version(model, caller, parts))


@router.post("/predict", responses=PREDICTED, openapi_extra=TASKS_BODY, response_class=Response)
async def label_studio_predict(
    request: Request, model: Model, caller: Predictor, service: ServiceDep, context: ContextDep
) -> Response:
    """Brush labels for each task's photo: of the set's first task with masks, those that the interface has."""
    parts = service.require_ready()
    s = service.settings
    codec = LabelStudioCodec(model, Sources(s.label_studio_url, s.label_studio_token_file))
    return await parts.predictions.answer(request, caller, codec, context)


async def _version(model: str, caller: Caller, parts: Parts) -> str:
    return str(await parts.lookup.resolve(model, caller.namespace))
