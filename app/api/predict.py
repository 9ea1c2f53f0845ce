"""POST /predict."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from app.access.keys import Caller, Scope
from app.deps import ContextDep, ServiceDep, require
from app.dialects.plain import PlainDialect
from app.predictions import Predictions, Wanted
from app.schemas.predict import OK_RESPONSES, REQUEST_BODY, HeaderText, PredictQuery
from app.schemas.problem import problem_responses

router = APIRouter(tags=["predict"])
ERRORS = problem_responses(400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504)


@router.post(
    "/predict",
    responses={**OK_RESPONSES, **ERRORS},
    openapi_extra=REQUEST_BODY,
    response_class=Response,
)
async def predict(
    request: Request,
    caller: Annotated[Caller, require(Scope.PREDICT, prediction=True)],
    service: ServiceDep,
    context: ContextDep,
    query: Annotated[PredictQuery, Query()],
    x_adapter: Annotated[HeaderText, Header(description="as `adapter`, which wins")] = None,
    x_deadline_ms: Annotated[int | None, Header(ge=1, le=3_600_000, description="as `deadline_ms`, which wins")] = None,
) -> Response:
    """Maps of one photo, or of several.

    Segmentation, human parts, saliency, surface normals, as the adapter set has them.

    Send the photo as raw `image/*` bytes, as multipart parts named `image`, or as JSON with base64.
    Maps have the size of the photo after its EXIF orientation is applied.
    """
    parts = service.require_ready()
    wanted = Wanted(caller, query.adapter or x_adapter, query.deadline_ms or x_deadline_ms)
    dialect = PlainDialect(query, ", ".join(request.headers.getlist("accept")))
    return await Predictions(service, parts).answer(request, wanted, dialect, context)
