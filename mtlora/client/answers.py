"""What a server answers, as values: adapter sets, readiness, problems. Fields that a newer server adds are left out."""

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mtlora.client.retry import retry_after_s
from mtlora.errors import BadAnswerError, RefusedError

M = TypeVar("M", bound="Answer")
PROBLEM_PREFIX = "urn:mtlora:problem:"
SHOWN_CHARACTERS = 200  # of an answer that nobody understands


class Answer(BaseModel):
    """Base of all answers: immutable."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ClassInfo(Answer):
    """One class of a class map."""

    id: int
    name: str
    color: tuple[int, int, int]


class TaskInfo(Answer):
    """One task of an adapter set."""

    outputs: int
    ranks: tuple[int, int, int, int]
    decoder: str
    axes: str = ""
    classes: tuple[ClassInfo, ...] = ()


class Revision(Answer):
    """One immutable revision."""

    revision: int
    digest: str = Field(description="sha256 of the file")
    bytes: int
    created: str
    current: bool
    tier: str = Field(description="disk, host or device: nearest place of its tensors")
    tasks: tuple[str, ...]


class AdapterSet(Answer):
    """One adapter set; what depends on a revision is said of the current one."""

    name: str
    current: int
    digest: str
    bytes: int
    tasks: dict[str, TaskInfo]
    ranks: tuple[int, int, int, int] | None
    image_size: int | None
    tier: str
    status: str = Field(description="ready, loading or failed")
    reason: str
    pinned: bool
    default: bool
    bundled: bool
    uses: int
    last_used: str | None
    revisions: tuple[Revision, ...]

    def before(self) -> int | None:
        """The revision to roll back to: the newest one older than the current one."""
        return max((r.revision for r in self.revisions if r.revision < self.current), default=None)


class AdapterList(Answer):
    """Every adapter set that the caller may see."""

    default: str
    adapters: tuple[AdapterSet, ...]


class Pushed(Answer):
    """What an upload led to."""

    adapter: AdapterSet
    revision: int = Field(description="number that the file's bytes have in the set")
    created: bool = Field(description="False: these bytes were a revision already")


class MissingSet(Answer):
    """A pinned set that is not in memory."""

    adapter: str
    reason: str


class ServerStatus(Answer):
    """Whether requests are taken."""

    status: str = Field(description="ready; degraded: ready, but sets are missing or cannot be changed; not-ready")
    missing: tuple[MissingSet, ...] = ()
    store: str = Field("", description="why sets cannot be changed now; empty: they can")
    waiting_for: tuple[str, ...] = Field((), description="why it is not ready")

    @property
    def ready(self) -> bool:
        """Whether predictions are answered now."""
        return self.status != "not-ready"


def read_as(model: type[M], response: httpx.Response) -> M:
    """The document of an answer; `BadAnswerError` if it is another."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise BadAnswerError(f"{_said(response)}: {where}: {first['msg']}") from None


def read_pushed(response: httpx.Response) -> Pushed:
    """The set after an upload, and the revision that the bytes are."""
    number = response.headers.get("X-Adapter-Revision", "").rpartition("@")[2]
    if not number.isdecimal():
        raise BadAnswerError(f"{_said(response)}: no X-Adapter-Revision with a number")
    created = response.status_code == httpx.codes.CREATED
    return Pushed(adapter=read_as(AdapterSet, response), revision=int(number), created=created)


def read_status(response: httpx.Response) -> ServerStatus:
    """Readiness, from 200 or 503."""
    if response.status_code == httpx.codes.OK:
        return read_as(ServerStatus, response)
    refused = problem_of(response)
    if refused.status != httpx.codes.SERVICE_UNAVAILABLE or not refused.kind:
        raise refused
    return ServerStatus(status="not-ready", waiting_for=refused.problems or (refused.detail,))


def problem_of(response: httpx.Response) -> RefusedError:
    """The error that an answer is: from a problem document (RFC 9457), or from whatever else came."""
    document = _problem_document(response)
    status, told_s = response.status_code, retry_after_s(response.headers.get("Retry-After"))
    if document is None:
        return RefusedError(status, _said(response), retry_after_s=told_s)
    items = document.get("errors")
    quota = document.get("quota")
    return RefusedError(
        status,
        str(document.get("detail") or document.get("title") or response.reason_phrase),
        kind=str(document.get("type", "")).removeprefix(PROBLEM_PREFIX),
        problems=[_item(item) for item in items] if isinstance(items, list) else (),
        request_id=str(document.get("request_id", "")),
        retry_after_s=told_s,
        quota=str(quota.get("name", "")) if isinstance(quota, dict) else "",
    )


def _problem_document(response: httpx.Response) -> dict[str, Any] | None:
    if not response.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _item(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    where = item.get("where")
    return f"{where}: {item.get('detail')}" if where else str(item.get("detail"))


def _said(response: httpx.Response) -> str:
    kind = response.headers.get("Content-Type", "no type")
    text = " ".join(response.text.split())[:SHOWN_CHARACTERS] if "text" in kind or "json" in kind else ""
    return f"{response.request.url} answered {response.status_code}, {kind}{f': {text}' if text else ''}"
