"""The handler of POST /predict."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from app.access.keys import Caller, Scope
from app.api.dependencies import ContextDep, ServiceDep, require
from app.api.predict.codec import PredictCodec
from app.api.predict.schemas import OK_RESPONSES, REQUEST_BODY, HeaderText, Milliseconds, PredictQuery
from app.api.problem import problem_responses
from app.composition.service import Service
from app.core.request_context import RequestContext
from app.http.parameters import in_headers, in_query
from app.prediction.read_images import may_say_more

router = APIRouter(tags=["predict"])
HEADERS = {"x-adapter": "adapter", "x-compute": "compute", "x-deadline-ms": "deadline_ms"}
ERRORS = problem_responses(400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504)


def _documented(
    query: Annotated[PredictQuery, Query()],
    x_adapter: Annotated[HeaderText, Header(description="as `adapter`")] = None,
    x_compute: Annotated[HeaderText, Header(description="as `compute`")] = None,
    x_deadline_ms: Annotated[Milliseconds | None, Header(description="as `deadline_ms`")] = None,
) -> None:
    """For the schema: what is in the query and in headers is read with what the body says."""


@router.post(
    "/predict",
    responses={**OK_RESPONSES, **ERRORS},
    openapi_extra=REQUEST_BODY,
    response_class=Response,
    dependencies=[Depends(_documented)],
)
async def predict(
    request: Request,
    caller: Annotated[Caller, require(Scope.PREDICT, prediction=True)],
    service: ServiceDep,
    context: ContextDep,
) -> Response:
    """Maps of one photo, or of several.

    Segmentation, human parts, saliency, surface normals, as the adapter set has them.

    Send the photo as raw `image/*` bytes, as multipart parts named `image`, or as JSON with base64.
    Parameters stand in the query, in form fields or in keys of the JSON body; one with two values is refused.
    Maps have the size of the photo after its EXIF orientation is applied.
    """
    return await _answer(request, caller, service, context)


@router.post(
    "/",
    responses={**OK_RESPONSES, **ERRORS},
    openapi_extra=REQUEST_BODY,
    response_class=Response,
    dependencies=[Depends(_documented)],
)
async def image_segmentation(
    request: Request,
    caller: Annotated[Caller, require(Scope.PREDICT, prediction=True)],
    service: ServiceDep,
    context: ContextDep,
) -> Response:
    """Masks of one photo, as Hugging Face's image segmentation answers at an endpoint's own address.

    As `POST /predict`, but `format` is `hf` and `tasks` the set's first task with masks, unless they are given.
    """
    return await _answer(request, caller, service, context, of_masks=True)


async def _answer(
    request: Request, caller: Caller, service: Service, context: RequestContext, *, of_masks: bool = False
) -> Response:
    parts = service.require_ready()
    found = in_query(request)
    for header, name in HEADERS.items():
        found += in_headers(request, header, name)
    accept, encodings = (", ".join(request.headers.getlist(name)) for name in ("accept", "accept-encoding"))
    codec = PredictCodec(found, (accept, encodings), open_to_more=may_say_more(request), of_masks=of_masks)
    return await parts.predictions.answer(request, caller, codec, context)
