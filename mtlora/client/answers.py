"""A server's answers as values: adapter sets, readiness, problems. Fields that a newer server adds are left out.

A server is not trusted: what it says is checked, and bounded, before it is believed to be an answer at all.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from pydantic_core import from_json

from mtlora.client.reply import Reply
from mtlora.client.retry import retry_after_s
from mtlora.vocabulary.errors import BadAnswerError, RefusedError, RemoteError
from mtlora.vocabulary.shown import SHOWN_CHARACTERS, shown

M = TypeVar("M", bound="Answer")
E = TypeVar("E")
PROBLEM_PREFIX = "urn:mtlora:problem:"
MOST_VALUES = 2_000_000  # of a document: a short one of brackets would become gigabytes of objects
MOST_PROBLEMS = 1000  # that are kept of a refusal
MOST_FAULTS = 1000  # of a document; more are counted, and not looked at
SHORT = 200  # characters of a name or an identifier
_REFUSALS = range(300, 600)
_REVISION = re.compile(r"[\x21-\x7e]{1,200}@([0-9]{1,18})")


Whole: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Many: TypeAlias = Annotated[tuple[E, ...], FailFast()]  # a million wrong elements would become a million errors


class Answer(BaseModel):
    """Base of all answers: immutable, of exactly the types that the API says."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class ClassInfo(Answer):
    """One class of a class map."""

    id: Whole
    name: str
    color: tuple[Whole, Whole, Whole]


class TaskInfo(Answer):
    """One task of an adapter set."""

    outputs: Whole
    ranks: tuple[Whole, Whole, Whole, Whole]
    decoder: str
    axes: str = ""
    classes: Many[ClassInfo] = ()


class Revision(Answer):
    """One immutable revision."""

    revision: Whole
    digest: str = Field(description="sha256 of the file")
    bytes: Whole
    created: str
    current: bool
    tier: str = Field(description="disk, host or device: nearest place of its tensors")
    tasks: Many[str]


class AdapterSet(Answer):
    """One adapter set; what depends on a revision is said of the current one."""

    name: str
    current: Whole
    digest: str
    bytes: Whole
    tasks: dict[str, TaskInfo]
    ranks: tuple[Whole, Whole, Whole, Whole] | None
    image_size: Whole | None
    compute: float | None = Field(None, description="smallest share that can be asked for; None: all is computed")
    default_compute: str = Field("", description="share where a request says nothing; empty: the server is older")
    tier: str
    status: str = Field(description="ready, loading or failed")
    reason: str
    pinned: bool
    default: bool
    bundled: bool
    uses: Whole
    last_used: str | None
    revisions: Many[Revision]

    def before(self) -> int | None:
        """The revision to roll back to: the newest one older than the current one."""
        return max((r.revision for r in self.revisions if r.revision < self.current), default=None)


class AdapterList(Answer):
    """Every adapter set that the caller may see."""

    default: str
    adapters: Many[AdapterSet]


class Pushed(Answer):
    """What an upload led to."""

    adapter: AdapterSet
    revision: Whole = Field(description="number that the file's bytes have in the set")
    created: bool = Field(description="False: these bytes were a revision already")


class MissingSet(Answer):
    """A pinned set that is not in memory."""

    adapter: str
    reason: str


class ServerStatus(Answer):
    """Whether requests are taken."""

    status: str = Field(description="ready; degraded: ready, but sets are missing or cannot be changed; not-ready")
    missing: Many[MissingSet] = ()
    store: str = Field("", description="why sets cannot be changed now; empty: they can")
    waiting_for: Many[str] = Field((), description="why it is not ready")

    @property
    def ready(self) -> bool:
        """Whether predictions are answered now."""
        return self.status != "not-ready"


def read_as(model: type[M], reply: Reply) -> M:
    """The document of an answer; `BadAnswerError` if it is another."""
    _check_values(reply)
    try:
        return model.model_validate_json(reply.body)
    except ValidationError as error:
        if error.error_count() > MOST_FAULTS:
            raise BadAnswerError(f"{reply.said()}: {error.error_count()} values in it are of the wrong type") from None
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = shown(".".join(map(str, first["loc"])) or "it", SHORT)
        raise BadAnswerError(f"{reply.said()}: {where}: {shown(first['msg'], SHORT)}") from None


def read_json(reply: Reply, text: bytes, what: str) -> Any:
    """JSON in an answer, as Python values: finite numbers, whole characters, not too many."""
    _check_values(reply)
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise BadAnswerError(f"{reply.url}: {what} is no JSON: {shown(error, SHORT)}") from error


def read_object(reply: Reply, text: bytes, what: str) -> dict[str, Any]:
    """A JSON object in an answer."""
    found = read_json(reply, text, what)
    if not isinstance(found, dict):
        raise BadAnswerError(f"{reply.url}: {what} is no object but {type(found).__name__}")
    return found


def read_pushed(reply: Reply) -> Pushed:
    """The set after an upload, and the revision that the bytes are."""
    number = _REVISION.fullmatch(reply.header("X-Adapter-Revision"))
    if number is None:
        raise BadAnswerError(f"{reply.said()}: no X-Adapter-Revision with a number")
    created = reply.status == HTTPStatus.CREATED
    return Pushed(adapter=read_as(AdapterSet, reply), revision=int(number[1]), created=created)


def answered_by(reply: Reply) -> str:
    """NAME@REVISION that an answer is from; empty if it does not say."""
    found = reply.header("X-Adapter-Revision")
    if found and not _REVISION.fullmatch(found):
        raise BadAnswerError(f"{reply.url}: X-Adapter-Revision should be NAME@NUMBER, got {shown(found, SHORT)}")
    return found


def read_status(reply: Reply) -> ServerStatus:
    """Readiness, from 200 or 503."""
    if reply.status == HTTPStatus.OK:
        return read_as(ServerStatus, reply)
    refused = problem_of(reply)
    if not isinstance(refused, RefusedError) or refused.status != HTTPStatus.SERVICE_UNAVAILABLE or not refused.kind:
        raise refused
    return ServerStatus(status="not-ready", waiting_for=refused.problems or (refused.detail,))


def problem_of(reply: Reply) -> RemoteError:
    """The error that an answer is: from a problem document (RFC 9457), or from whatever else came.

    All its words are fit to be shown.
    """
    if reply.status not in _REFUSALS:
        return BadAnswerError(f"{reply.said()}: this API has no such answer")
    document = _problem_document(reply)
    told_s = retry_after_s(reply.header("Retry-After"))
    if document is None:
        return RefusedError(reply.status, reply.said(), retry_after_s=told_s)
    items, quota = document.get("errors"), document.get("quota")
    return RefusedError(
        reply.status,
        _text(document, "detail") or _text(document, "title") or reply.said(),
        kind=_text(document, "type", SHORT).removeprefix(PROBLEM_PREFIX),
        problems=_problems(items) if isinstance(items, list) else (),
        request_id=_text(document, "request_id", SHORT),
        retry_after_s=told_s,
        quota=_text(quota, "name", SHORT) if isinstance(quota, dict) else "",
    )


def _check_values(reply: Reply) -> None:
    values = sum(map(reply.body.count, (b",", b"[", b"{")))
    if values > MOST_VALUES:
        raise BadAnswerError(f"{reply.url}: a document of about {values} values; at most {MOST_VALUES} make sense")


def _problem_document(reply: Reply) -> dict[str, Any] | None:
    if not reply.header("Content-Type").startswith("application/problem+json"):
        return None
    try:
        _check_values(reply)
        return read_object(reply, reply.body, "the problem")
    except BadAnswerError:
        return None


def _problems(items: list[Any]) -> list[str]:
    kept = [_item(item) for item in items[:MOST_PROBLEMS]]
    return kept if len(items) <= MOST_PROBLEMS else [*kept, f"and {len(items) - MOST_PROBLEMS} more"]


def _item(item: object) -> str:
    if not isinstance(item, dict):
        return shown(item)
    where, detail = _text(item, "where", SHORT), _text(item, "detail")
    return f"{where}: {detail}" if where else detail


def _text(document: Mapping[str, Any], name: str, most: int = SHOWN_CHARACTERS) -> str:
    found = document.get(name)
    return shown(found, most) if isinstance(found, str) else ""
