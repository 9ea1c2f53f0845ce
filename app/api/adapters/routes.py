"""The handlers of /adapters: list, upload, activate, pin, load, unload, delete, fetch."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from app.access.keys import Caller, Scope
from app.answers.form import to_json
from app.api.adapters.schemas import MOST_REVISION, AdapterListOut, AdapterSetOut, CurrentIn
from app.api.dependencies import ContextDep, PartsDep, ReadyDep, ServiceDep, changing, require
from app.api.problem import problem_responses
from app.composition.parts import Parts
from app.core.errors import ParameterConflictError, UnsupportedMediaError
from app.core.names import plain_name
from app.core.numbers import PLAIN
from app.core.request_context import RequestContext
from app.http.body_stream import announced_bytes, bounded_stream
from app.http.byte_ranges import FileAnswer
from app.http.forwarded import prefix_of
from app.http.json_body import parse_document, read_small
from app.http.multipart import multipart_events
from app.http.parameters import in_query
from app.registry.upload import UploadOptions

router = APIRouter(prefix="/adapters", tags=["adapters"])

Name = Annotated[str, Path(max_length=64, description="name of an adapter set", examples=["default"])]
RevisionQuery = Annotated[Annotated[int, Field(ge=1, le=MOST_REVISION), PLAIN] | None, Query()]
FORM_OVERHEAD_BYTES = 65536  # of a multipart body beside its file
Reader = Annotated[Caller, require(Scope.ADAPTERS_READ)]
REFUSED = problem_responses(400, 401, 403, 404, 409, 422, 429, 503)
CURRENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CurrentIn"}}},
    }
}
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "one .safetensors adapter file"},
                        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"},
                        "activate": {"type": "boolean", "default": True},
                    },
                }
            }
        },
    }
}
_SET = {"application/json": {"schema": {"$ref": "#/components/schemas/AdapterSetOut"}}}
UPLOADED: dict[int | str, dict[str, Any]] = {
    200: {"description": "These bytes were a revision already.", "content": _SET},
    201: {
        "description": "A new revision.",
        "headers": {"Location": {"description": "path of the set", "schema": {"type": "string"}}},
        "content": _SET,
    },
}


@router.get("", responses=problem_responses(400, 401, 403, 422, 429, 503))
async def list_adapters(caller: Reader, parts: PartsDep) -> AdapterListOut:
    """Every adapter set with its revisions, and where its tensors are."""
    sets = [AdapterSetOut.of(found, caller, parts) for found in await parts.adapters.list(caller)]
    return AdapterListOut(default=parts.catalog.default, adapters=sets)


@router.post(
    "",
    responses={**UPLOADED, **problem_responses(400, 401, 403, 408, 409, 413, 415, 422, 429, 503, 507)},
    openapi_extra=UPLOAD_BODY,
    response_class=Response,
    status_code=201,
)
async def upload_adapter(
    request: Request,
    caller: Annotated[Caller, changing("upload", body=True)],
    context: ContextDep,
    service: ServiceDep,
    parts: ReadyDep,
    query: Annotated[UploadOptions, Query()],  # noqa: ARG001  documented here, read with the form
) -> Response:
    """Add a revision to a set, or a new set. A refused file changes nothing, and the refusal lists every fault.

    Options stand in form fields or in the query; one with two values is refused.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMediaError(f"uploads are multipart/form-data, got {content_type[:80]!r}")
    settings = service.settings
    limit = settings.max_adapter_bytes + FORM_OVERHEAD_BYTES
    stream = bounded_stream(
        request, limit=limit, timeout_s=settings.upload_timeout_s, setting="MTLORA_MAX_ADAPTER_BYTES"
    )
    announced = max(0, announced_bytes(request) - FORM_OVERHEAD_BYTES)
    uploaded = await parts.adapters.upload(multipart_events(stream, content_type), caller, announced, in_query(request))
    context.facts |= {"adapter": uploaded.ref.name, "revision": uploaded.ref.revision, "digest": uploaded.ref.digest}
    name = plain_name(uploaded.ref.name)
    document = (await _document(name, caller, parts)).model_dump()
    headers = {"Location": f"{prefix_of(request.scope)}/adapters/{name}", "X-Adapter-Revision": str(uploaded.ref)}
    return Response(to_json(document), 201 if uploaded.created else 200, headers, "application/json")


@router.get("/{name}", responses=problem_responses(400, 401, 403, 404, 422, 429, 503))
async def get_adapter(name: Name, caller: Reader, parts: PartsDep) -> AdapterSetOut:
    """One adapter set."""
    return await _document(name, caller, parts)


@router.delete("/{name}", status_code=204, responses=REFUSED)
async def delete_adapter(
    name: Name,
    caller: Annotated[Caller, changing("delete")],
    context: ContextDep,
    parts: ReadyDep,
    revision: RevisionQuery = None,
) -> None:
    """Delete a set, or one revision that is not current. New requests get 404 at once, running ones finish."""
    context.facts["revision"] = revision
    gone = await parts.adapters.delete(name, revision, caller)
    context.facts["digest"] = [ref.digest for ref in gone]


@router.put(
    "/{name}/current",
    responses={**REFUSED, **problem_responses(408, 413, 415)},
    openapi_extra=CURRENT_BODY,
)
async def activate_revision(
    name: Name,
    request: Request,
    caller: Annotated[Caller, changing("activate", body=True)],
    context: ContextDep,
    service: ServiceDep,
    parts: ReadyDep,
    revision: RevisionQuery = None,
) -> AdapterSetOut:
    """Roll forward or back. Requests under way finish on the revision they began with.

    The revision stands in the body or in the query; two different ones are refused.
    """
    body = await read_small(request, timeout_s=service.settings.body_timeout_s)
    wanted = _revision(body, revision)
    context.facts["revision"] = wanted
    former = await parts.adapters.activate(name, wanted, caller)
    context.facts["former"] = former
    if wanted < former:
        context.change = "rollback"
    return await _changed(name, caller, context, parts)


@router.put("/{name}/pin", responses=REFUSED)
async def pin_adapter(
    name: Name, caller: Annotated[Caller, changing("pin")], context: ContextDep, parts: ReadyDep
) -> AdapterSetOut:
    """Keep a set in memory whatever else is asked for."""
    await parts.adapters.pin(name, caller, pinned=True)
    return await _changed(name, caller, context, parts)


@router.delete("/{name}/pin", responses=REFUSED)
async def unpin_adapter(
    name: Name, caller: Annotated[Caller, changing("unpin")], context: ContextDep, parts: ReadyDep
) -> AdapterSetOut:
    """Let a set be evicted again."""
    await parts.adapters.pin(name, caller, pinned=False)
    return await _changed(name, caller, context, parts)


@router.post("/{name}/load", responses=REFUSED)
async def load_adapter(
    name: Name, caller: Annotated[Caller, changing("load")], context: ContextDep, parts: ReadyDep
) -> AdapterSetOut:
    """Bring a set into memory before the first request needs it."""
    await parts.adapters.load(name, caller)
    return await _changed(name, caller, context, parts)


@router.post("/{name}/unload", responses=REFUSED)
async def unload_adapter(
    name: Name, caller: Annotated[Caller, changing("unload")], context: ContextDep, parts: ReadyDep
) -> AdapterSetOut:
    """Take a set out of memory; requests that use it finish first."""
    await parts.adapters.unload(name, caller)
    return await _changed(name, caller, context, parts)


@router.get(
    "/{name}/file",
    response_class=FileAnswer,
    responses={
        200: {
            "description": "The adapter file.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {"description": "The range asked for."},
        **problem_responses(400, 401, 403, 404, 416, 422, 429, 503),
    },
)
async def get_adapter_file(name: Name, caller: Reader, parts: PartsDep, revision: RevisionQuery = None) -> FileAnswer:
    """The bytes of a revision, as they were uploaded."""
    ref = await parts.lookup.ref(parts.catalog.locate(name, caller.namespace), revision)
    headers = {"ETag": f'"{ref.digest}"', "X-Adapter-Revision": str(ref)}
    file_name = f"{plain_name(ref.name)}-{ref.revision}.safetensors"
    path = await parts.adapters.file(ref)
    return FileAnswer(path, 200, headers, "application/octet-stream", filename=file_name)


def _revision(body: bytes, queried: int | None) -> int:
    if not body and queried is not None:
        return queried
    in_body = parse_document(body, CurrentIn).revision
    if queried not in {None, in_body}:
        raise ParameterConflictError(f"revision is {queried} in the query and {in_body} in the JSON body; give it once")
    return in_body


async def _changed(name: str, caller: Caller, context: RequestContext, parts: Parts) -> AdapterSetOut:
    """The set as it is after a change, for the answer and for the audit line."""
    found = await parts.adapters.get(name, caller)
    ref = found.entry.ref()
    context.facts |= {"adapter": ref.name, "revision": ref.revision, "digest": ref.digest}
    return AdapterSetOut.of(found, caller, parts)


async def _document(name: str, caller: Caller, parts: Parts) -> AdapterSetOut:
    return AdapterSetOut.of(await parts.adapters.get(name, caller), caller, parts)
