"""The endpoints for machines: liveness, readiness, metrics."""

from typing import Literal

from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.access.keys import Scope
from app.api.dependencies import ServiceDep, probing, require
from app.api.problem import problem_responses

router = APIRouter(tags=["operate"])


class LiveOut(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class MissingOut(BaseModel):
    """A pinned set that is not on the device."""

    adapter: str = Field(description="name and revision; of name spaces other than the global one: empty")
    reason: str


class ReadyOut(BaseModel):
    """The server takes requests."""

    status: Literal["ready", "degraded"] = Field(
        description="degraded: ready, but pinned sets are missing, or the store of sets cannot be used"
    )
    missing: list[MissingOut] = Field(description="pinned sets that are not on the device")
    store: str | None = Field(
        None, description="why sets cannot be changed, or changes of other servers be seen; not there: they can"
    )


@router.get("/livez")
async def livez() -> LiveOut:
    """Whether the process answers at all."""
    return LiveOut()


@router.get(
    "/readyz", response_model_exclude_none=True, dependencies=[Depends(probing)], responses=problem_responses(503)
)
async def readyz(service: ServiceDep) -> ReadyOut:
    """Whether requests are taken: engine warm, every pinned set tried, not draining. 503 lists what is waited for."""
    service.require_warm()
    missing = [MissingOut(adapter=name, reason=reason) for name, reason in service.missing_pins()]
    fault = service.store_fault()
    return ReadyOut(status="degraded" if missing or fault else "ready", missing=missing, store=fault or None)


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[require(Scope.METRICS, any_query=True)],  # scrapers and caches add some
    responses={
        **problem_responses(400, 401, 403, 429),
        200: {"description": "Prometheus text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    },
)
async def metrics(service: ServiceDep) -> Response:
    """Every metric, in Prometheus' text format."""
    return Response(await service.expose_metrics(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
