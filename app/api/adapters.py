"""/adapters: list, upload, activate, pin, load, unload, delete, fetch."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import FileResponse, Response

from app.access.keys import Scope
from app.deps import PartsDep, ReadyDep, ServiceDep, require
from app.errors import UnsupportedMediaError
from app.imaging.render import to_json
from app.intake.multipart import multipart_events
from app.intake.stream import bounded_stream
from app.residency.names import known_shape
from app.schemas.adapters import AdapterListOut, AdapterSetOut, CurrentIn
from app.schemas.problem import problem_responses
from app.service import Parts

router = APIRouter(prefix="/adapters", tags=["adapters"])

Name = Annotated[str, Path(max_length=64, description="name of an adapter set", examples=["default"])]
RevisionQuery = Annotated[int | None, Query(ge=1, le=999_999_999)]
FORM_OVERHEAD_BYTES = 65536  # of a multipart body beside its file
READ = [require(Scope.ADAPTERS_READ)]
WRITE = [require(Scope.ADAPTERS_WRITE)]
REFUSED = problem_responses(401, 403, 404, 409, 422, 429, 503)
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
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


@router.get("", dependencies=READ, responses=problem_responses(401, 403, 429, 503))
async def list_adapters(parts: PartsDep) -> AdapterListOut:
    """Every adapter set with its revisions, and where its tensors are."""
    sets = [AdapterSetOut.of(found, parts.adapters) for found in await parts.adapters.list()]
    return AdapterListOut(default=parts.catalog.default, adapters=sets)


@router.post(
    "",
    dependencies=WRITE,
    responses={**UPLOADED, **problem_responses(400, 401, 403, 408, 409, 413, 415, 422, 429, 503, 507)},
    openapi_extra=UPLOAD_BODY,
    response_class=Response,
    status_code=201,
)
async def upload_adapter(request: Request, service: ServiceDep, parts: ReadyDep) -> Response:
    """Add a revision to a set, or a new set. A refused file changes nothing, and the refusal lists every fault."""
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMediaError(f"uploads are multipart/form-data, got {content_type[:80]!r}")
    settings = service.settings
    limit = settings.max_adapter_bytes + FORM_OVERHEAD_BYTES
    stream = bounded_stream(request, limit=limit, timeout_s=settings.upload_timeout_s)
    uploaded = await parts.adapters.upload(multipart_events(stream, content_type))
    document = (await _document(uploaded.name, parts)).model_dump()
    headers = {
        "Location": f"/adapters/{uploaded.name}",
        "X-Adapter-Revision": f"{uploaded.name}@{uploaded.revision.revision}",
    }
    return Response(to_json(document), 201 if uploaded.created else 200, headers, "application/json")


@router.get("/{name}", dependencies=READ, responses=problem_responses(401, 403, 404, 422, 429, 503))
async def get_adapter(name: Name, parts: PartsDep) -> AdapterSetOut:
    """One adapter set."""
    return await _document(name, parts)


@router.delete("/{name}", status_code=204, dependencies=WRITE, responses=REFUSED)
async def delete_adapter(name: Name, parts: ReadyDep, revision: RevisionQuery = None) -> None:
    """Delete a set, or one revision that is not current. New requests get 404 at once, running ones finish."""
    await parts.adapters.delete(name, revision)


@router.put("/{name}/current", dependencies=WRITE, responses={**REFUSED, **problem_responses(400)})
async def activate_revision(name: Name, body: CurrentIn, parts: ReadyDep) -> AdapterSetOut:
    """Roll forward or back. Requests under way finish on the revision they began with."""
    await parts.adapters.activate(name, body.revision)
    return await _document(name, parts)


@router.put("/{name}/pin", dependencies=WRITE, responses=REFUSED)
async def pin_adapter(name: Name, parts: ReadyDep) -> AdapterSetOut:
    """Keep a set in memory whatever else is asked for."""
    await parts.adapters.pin(name, pinned=True)
    return await _document(name, parts)


@router.delete("/{name}/pin", dependencies=WRITE, responses=REFUSED)
async def unpin_adapter(name: Name, parts: ReadyDep) -> AdapterSetOut:
    """Let a set be evicted again."""
    await parts.adapters.pin(name, pinned=False)
    return await _document(name, parts)


@router.post("/{name}/load", dependencies=WRITE, responses=REFUSED)
async def load_adapter(name: Name, parts: ReadyDep) -> AdapterSetOut:
    """Bring a set into memory before the first request needs it."""
    await parts.adapters.load(name)
    return await _document(name, parts)


@router.post("/{name}/unload", dependencies=WRITE, responses=REFUSED)
async def unload_adapter(name: Name, parts: ReadyDep) -> AdapterSetOut:
    """Take a set out of memory; requests that use it finish first."""
    await parts.adapters.unload(name)
    return await _document(name, parts)


@router.get(
    "/{name}/file",
    dependencies=READ,
    response_class=FileResponse,
    responses={
        200: {
            "description": "The adapter file.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {"description": "The range asked for."},
        **problem_responses(401, 403, 404, 416, 422, 429, 503),
    },
)
async def get_file(name: Name, parts: PartsDep, revision: RevisionQuery = None) -> FileResponse:
    """The bytes of a revision, as they were uploaded."""
    entry = parts.catalog.entry(known_shape(name))
    ref = entry.ref(revision)
    headers = {"ETag": f'"{ref.digest}"', "X-Adapter-Revision": str(ref)}
    file_name = f"{ref.name}-{ref.revision}.safetensors"
    return FileResponse(parts.catalog.path(ref), 200, headers, "application/octet-stream", filename=file_name)


async def _document(name: str, parts: Parts) -> AdapterSetOut:
    return AdapterSetOut.of(await parts.adapters.get(name), parts.adapters)
