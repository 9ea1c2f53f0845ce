"""The handlers of the protocol's extensions: the index of sets, load and unload, configuration, statistics."""

from typing import Annotated, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from app.access.keys import Caller, Scope
from app.api.dependencies import ContextDep, ReadyDep, ServiceDep, changing, require
from app.api.open_inference.describe import describe
from app.api.open_inference.repository_schemas import (
    DATA_TYPES,
    IndexEntryOut,
    IndexIn,
    LoadIn,
    ModelConfigOut,
    ModelStatisticsOut,
    StatisticsOut,
    TensorConfigOut,
    UnloadIn,
    small_body,
)
from app.api.open_inference.schemas import V2_PREFIX, ModelV2Out, TensorSpecOut, v2_responses
from app.composition.parts import Parts
from app.composition.service import Service
from app.core.errors import BadParameterError
from app.core.names import parse_reference, plain_name
from app.http.json_body import parse_document, read_small
from app.registry.lookup import Described

router = APIRouter(prefix=V2_PREFIX, tags=["open inference protocol"])
M = TypeVar("M", bound=BaseModel)

Predictor = Annotated[Caller, require(Scope.PREDICT)]
LOOKED_AT = v2_responses(400, 401, 403, 404, 422, 429, 503)
CHANGED = {200: {"description": "Done."}, **v2_responses(400, 401, 403, 404, 408, 409, 413, 422, 429, 503)}


@router.post(
    "/repository/index",
    responses=v2_responses(400, 401, 403, 408, 413, 422, 429, 503),
    openapi_extra=small_body("IndexIn"),
)
async def repository_index(
    request: Request, caller: Predictor, service: ServiceDep, parts: ReadyDep
) -> list[IndexEntryOut]:
    """The sets that the key may see: every revision, and whether it can be used."""
    wanted = await _body(request, service, IndexIn)
    entries = [entry for found in await parts.adapters.list(caller) for entry in _index(found)]
    return [entry for entry in entries if entry.state == "READY" or not wanted.ready]


@router.post(
    "/repository/models/{name}/load",
    responses=CHANGED,
    openapi_extra=small_body("LoadIn"),
    response_class=Response,
)
async def load_model(
    name: str,
    request: Request,
    caller: Annotated[Caller, changing("load", body=True)],
    context: ContextDep,
    service: ServiceDep,
    parts: ReadyDep,
) -> Response:
    """Bring a set into memory before the first request needs it; as `POST /adapters/{name}/load`."""
    wanted = await _body(request, service, LoadIn)
    if wanted.parameters:
        named = ", ".join(map(str, wanted.parameters))[:200]
        raise BadParameterError(
            f"a set is loaded as its file says, so there are no parameters of loading, got {named}; "
            "new weights are uploaded with POST /adapters"
        )
    await parts.adapters.load(name, caller)
    context.facts["adapter"] = parts.catalog.locate(name, caller.namespace)
    return Response(None, 200)


@router.post(
    "/repository/models/{name}/unload",
    responses=CHANGED,
    openapi_extra=small_body("UnloadIn"),
    response_class=Response,
)
async def unload_model(
    name: str,
    request: Request,
    caller: Annotated[Caller, changing("unload", body=True)],
    context: ContextDep,
    service: ServiceDep,
    parts: ReadyDep,
) -> Response:
    """Take a set out of memory; as `POST /adapters/{name}/unload`. The next request for it loads it again."""
    await _body(request, service, UnloadIn)
    await parts.adapters.unload(name, caller)
    context.facts["adapter"] = parts.catalog.locate(name, caller.namespace)
    return Response(None, 200)


@router.get("/models/{model}/metadata", responses=LOOKED_AT)
async def named_metadata(model: str, caller: Predictor, parts: ReadyDep) -> ModelV2Out:
    """As `/v2/models/{model}`, for every name: the set `stats` has its current revision's metadata only here."""
    return await describe(model, caller, parts)


@router.get("/models/stats", responses=v2_responses(400, 401, 403, 422, 429, 503))
async def all_statistics(caller: Predictor, parts: ReadyDep) -> StatisticsOut:
    """What every set that the key may see has answered since the server started."""
    sets = await parts.adapters.list(caller)
    return StatisticsOut(model_stats=[one for found in sets for one in _statistics(found, None, parts)])


@router.get("/models/{model}/stats", responses=LOOKED_AT)
async def model_statistics(model: str, caller: Predictor, parts: ReadyDep) -> StatisticsOut:
    """What a set has answered since the server started, by revision."""
    name, revision = parse_reference(model)
    found = await parts.adapters.get(name, caller)
    if revision is not None:
        found.entry.ref(revision)  # is there, or 404
    return StatisticsOut(model_stats=_statistics(found, revision, parts))


@router.get("/models/{model}/versions/{version}/stats", responses=LOOKED_AT)
async def version_statistics(model: str, version: str, caller: Predictor, parts: ReadyDep) -> StatisticsOut:
    """What one revision of a set has answered since the server started."""
    return await model_statistics(f"{model}@{version}", caller, parts)


@router.get("/models/{model}/config", responses=LOOKED_AT)
async def model_config(model: str, caller: Predictor, parts: ReadyDep) -> ModelConfigOut:
    """A set as a model's configuration, as far as that says something here."""
    told = await describe(model, caller, parts)
    return ModelConfigOut(
        name=told.name,
        platform=told.platform,
        backend="",
        max_batch_size=0,
        input=[_tensor(one) for one in told.inputs],
        output=[_tensor(one) for one in told.outputs],
    )


@router.get("/models/{model}/versions/{version}/config", responses=LOOKED_AT)
async def version_config(model: str, version: str, caller: Predictor, parts: ReadyDep) -> ModelConfigOut:
    """The same of one revision."""
    return await model_config(f"{model}@{version}", caller, parts)


async def _body(request: Request, service: Service, kind: type[M]) -> M:
    """A small JSON body; none is as an empty object."""
    body = await read_small(request, timeout_s=service.settings.body_timeout_s)
    return parse_document(body if body.strip() else b"{}", kind)


def _index(found: Described) -> list[IndexEntryOut]:
    name, current = plain_name(found.entry.state.name), found.entry.ref().revision
    listed = []
    for revision in found.entry.state.revisions:
        reason = found.fault if revision.revision == current else ""
        if revision.revision not in found.manifests:
            reason = reason or "its file cannot be read"
        state: str = "UNAVAILABLE" if reason else "READY"
        listed.append(
            IndexEntryOut.model_validate(
                {"name": name, "version": str(revision.revision), "state": state, "reason": reason}
            )
        )
    return listed


def _statistics(found: Described, revision: int | None, parts: Parts) -> list[ModelStatisticsOut]:
    full = found.entry.state.name
    return [
        ModelStatisticsOut.of(plain_name(full), one.revision, parts.statistics.of(full, one.revision))
        for one in found.entry.state.revisions
        if revision in {None, one.revision}
    ]


def _tensor(spec: TensorSpecOut) -> TensorConfigOut:
    return TensorConfigOut(name=spec.name, data_type=DATA_TYPES[spec.datatype], dims=spec.shape)
