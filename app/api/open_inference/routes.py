"""The handlers of /v2: the Open Inference Protocol (KServe's and Triton's), REST with binary tensors."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from starlette.responses import Response

from app.access.keys import Caller, Scope
from app.api.dependencies import ContextDep, ReadyDep, ServiceDep, probing, require
from app.api.open_inference.codec import OpenInferenceCodec
from app.api.open_inference.describe import describe
from app.api.open_inference.schemas import (
    EXTENSIONS,
    INFER_BODY,
    INFER_RESPONSES,
    LENGTH_HEADER,
    V2_PREFIX,
    LiveV2Out,
    ModelReadyV2Out,
    ModelV2Out,
    ReadyV2Out,
    ServerV2Out,
    v2_responses,
)
from app.api.predict.schemas import HeaderText, Milliseconds, PredictQuery
from app.composition.parts import Parts
from app.core.errors import AdapterLoadError
from app.core.names import plain_name
from app.http.parameters import in_headers, merged
from mtlora.version import __version__

router = APIRouter(prefix=V2_PREFIX, tags=["open inference protocol"])

Model = Annotated[str, Path(description="NAME or NAME@REVISION of an adapter set", examples=["default"])]
Version = Annotated[str, Path(description="a revision of it", examples=["1"])]
Predictor = Annotated[Caller, require(Scope.PREDICT)]
Inferrer = Annotated[Caller, require(Scope.PREDICT, prediction=True)]
PROBE = [Depends(probing)]
LOOKED_AT = v2_responses(400, 401, 403, 404, 422, 429, 503)
INFERRED = {**INFER_RESPONSES, **v2_responses(400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504)}


@router.get("/health/live")
async def server_live() -> LiveV2Out:
    """Whether the process answers at all."""
    return LiveV2Out()


@router.get("/health/ready", dependencies=PROBE, responses=v2_responses(503))
async def server_ready(service: ServiceDep) -> ReadyV2Out:
    """Whether requests are taken, as /readyz."""
    service.require_warm()
    return ReadyV2Out()


@router.get("")
async def server_metadata() -> ServerV2Out:
    """What answers here."""
    return ServerV2Out(name="mtlora", version=__version__, extensions=EXTENSIONS)


@router.get("/models/{model}", responses=LOOKED_AT)
async def model_metadata(model: Model, caller: Predictor, parts: ReadyDep) -> ModelV2Out:
    """An adapter set: its revisions as versions, its tasks as outputs."""
    return await describe(model, caller, parts)


@router.get("/models/{model}/versions/{version}", responses=LOOKED_AT)
async def version_metadata(model: Model, version: Version, caller: Predictor, parts: ReadyDep) -> ModelV2Out:
    """One revision of an adapter set."""
    return await describe(f"{model}@{version}", caller, parts)


@router.get("/models/{model}/ready", dependencies=PROBE, responses=LOOKED_AT)
async def model_ready(model: Model, caller: Predictor, parts: ReadyDep) -> ModelReadyV2Out:
    """Whether an adapter set can be used; it need not be in memory for that."""
    return await _ready(model, caller, parts)


@router.get("/models/{model}/versions/{version}/ready", dependencies=PROBE, responses=LOOKED_AT)
async def version_ready(model: Model, version: Version, caller: Predictor, parts: ReadyDep) -> ModelReadyV2Out:
    """Whether one revision of an adapter set can be used."""
    return await _ready(f"{model}@{version}", caller, parts)


def _revision(model: Model, version: Version) -> str:
    return f"{model}@{version}"


Revision = Annotated[str, Depends(_revision)]
LengthHeader = Annotated[str | None, Header(alias=LENGTH_HEADER, description="bytes of JSON before the tensors")]
ComputeHeader = Annotated[HeaderText, Header(description="as `compute` of /predict")]
Deadline = Annotated[Milliseconds | None, Header(description="give up (504) after so many milliseconds")]


@router.post("/models/{model}/infer", responses=INFERRED, openapi_extra=INFER_BODY, response_class=Response)
async def infer(
    request: Request,
    model: Model,
    caller: Inferrer,
    service: ServiceDep,
    context: ContextDep,
    length: LengthHeader = None,  # noqa: ARG001  documented here, read with the body
    x_deadline_ms: Deadline = None,  # noqa: ARG001  likewise, with the header if it came twice
    x_compute: ComputeHeader = None,  # noqa: ARG001  likewise
) -> Response:
    """Maps of photos, which are one BYTES tensor of encoded images, as tensors [N, H, W], normals as [N, H, W, 3]."""
    parts = service.require_ready()
    found = in_headers(request, "x-deadline-ms", "deadline_ms") + in_headers(request, "x-compute", "compute")
    asked = merged(PredictQuery, found)
    codec = OpenInferenceCodec(model, asked.deadline_ms, asked.compute)
    return await parts.predictions.answer(request, caller, codec, context)


@router.post(
    "/models/{model}/versions/{version}/infer", responses=INFERRED, openapi_extra=INFER_BODY, response_class=Response
)
async def infer_version(
    request: Request,
    reference: Revision,
    caller: Inferrer,
    service: ServiceDep,
    context: ContextDep,
    length: LengthHeader = None,
    x_deadline_ms: Deadline = None,
    x_compute: ComputeHeader = None,
) -> Response:
    """The same by one revision."""
    return await infer(request, reference, caller, service, context, length, x_deadline_ms, x_compute)


async def _ready(reference: str, caller: Caller, parts: Parts) -> ModelReadyV2Out:
    ref = await parts.lookup.resolve(reference, caller.namespace)
    await parts.lookup.manifest(ref)
    fault = parts.catalog.fault(ref.name) or parts.device_cache.failure(ref)
    if fault:
        raise AdapterLoadError(f"adapter set {ref} cannot be used: {fault}")
    return ModelReadyV2Out(name=plain_name(ref.name))
