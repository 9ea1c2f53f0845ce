"""The images of a prediction, from any of the three forms of body."""

import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from app.core.errors import BadBodyError, BadParameterError, EmptyBodyError, UnsupportedMediaError
from app.core.nearest import unknown
from app.http.base64_text import decode_base64
from app.http.body_budget import Hold
from app.http.body_stream import announced_bytes, bounded_stream, read_all
from app.http.json_body import check_values, without_doubles
from app.http.multipart import PartBegin, PartData, PartEnd, multipart_events
from app.http.parameters import FORM, JSON, MAX_FIELD_BYTES, Found, check_known, fault, field_text, in_json
from mtlora.images.container import is_image

IMAGE_FIELD = "image"
IMAGE_KEYS = ("image", "images")
INPUTS, PARAMETERS = "inputs", "parameters"  # as Hugging Face's clients call the image and the parameters
MULTIPART, JSON_MEDIA = "multipart/form-data", "application/json"
FORMS = (
    'send image/* bytes, multipart/form-data with parts named "image", or JSON {"image": base64}; '
    "with curl: curl -F image=@photo.jpg 'http://HOST:PORT/predict'"
)
_LIKE_IMAGE = frozenset({"file", "files", "images", "photo", "picture"})
_UNSAID = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
"""What programs send that know nothing of a file; the last is what curl says of --data-binary."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Encoded photos as sent, whether the client expects a list of answers, and the parameters beside them."""

    images: tuple[bytes, ...]
    several: bool
    found: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True)
class Knows:
    """Parameters that a body may have beside its images."""

    names: Sequence[str] = ()
    lists: Collection[str] = ()  # of these, the ones that JSON may have as lists


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one request's body."""

    bytes: int
    images: int
    timeout_s: float


NOTHING_MORE = Knows()


def open_body(request: Request, hold: Hold, bounds: Bounds) -> AsyncIterator[bytes]:
    """The body of a prediction as it comes, within its own bounds and those of all bodies together."""
    hold.check(min(announced_bytes(request), bounds.bytes))
    return bounded_stream(
        request, limit=bounds.bytes, timeout_s=bounds.timeout_s, on_bytes=hold.grow, setting="MTLORA_MAX_BODY_BYTES"
    )


def media_of(request: Request) -> str:
    """The kind of body that the client says it sends; empty if it does not."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def may_say_more(request: Request) -> bool:
    """Whether the body is of a form that has room for parameters."""
    return media_of(request) in {MULTIPART, JSON_MEDIA}


async def read_images(request: Request, hold: Hold, bounds: Bounds, knows: Knows) -> Intake:
    """Read the body, whatever its form; `RequestError` says what is wrong with it."""
    stream = open_body(request, hold, bounds)
    media = media_of(request)
    if media == MULTIPART:
        intake = await _from_multipart(stream, request.headers["content-type"], bounds.images, knows)
    elif media == JSON_MEDIA:
        intake = parse_json(await read_all(stream), knows)
    elif media.startswith("image/"):
        intake = Intake((await read_all(stream),), several=False)
    elif media in _UNSAID:
        intake = _from_unsaid(await read_all(stream), media)
    else:
        raise UnsupportedMediaError(f"Content-Type {media[:80]!r} is not understood; {FORMS}")
    return _checked(intake, bounds.images)


def _from_unsaid(body: bytes, media: str) -> Intake:
    """A photo that nobody called one: its first bytes say so."""
    if not body:
        raise EmptyBodyError(f"the request has no body; {FORMS}")
    if not is_image(body):
        raise UnsupportedMediaError(
            f"Content-Type {media!r} with a body that begins with {body[:8]!r} is no photo that is known; {FORMS}"
        )
    return Intake((body,), several=False)


def parse_json(body: bytes, knows: Knows = NOTHING_MORE) -> Intake:
    """Images and parameters of a JSON body."""
    if not body:
        raise EmptyBodyError(f"the JSON body is empty; {FORMS}")
    check_values(body)
    try:
        document = json.loads(body, object_pairs_hook=without_doubles)
    except (ValueError, RecursionError) as error:
        raise BadBodyError(f"the JSON body cannot be parsed: {str(error)[:200]}") from error
    if not isinstance(document, dict):
        raise BadBodyError('the JSON body must be an object with either "image" or "images"')
    if INPUTS in document and knows.names:
        return _from_hugging_face(document, knows)
    check_known(JSON, document, (*IMAGE_KEYS, *knows.names), "key")
    if len(document.keys() & set(IMAGE_KEYS)) != 1:
        raise BadBodyError('the JSON body must be an object with either "image" or "images"')
    found = tuple(in_json({name: document[name] for name in document if name not in IMAGE_KEYS}, knows.lists))
    if "image" in document:
        return Intake((decode_base64(document["image"], "image"),), several=False, found=found)
    listed = document["images"]
    if not isinstance(listed, list):
        raise BadBodyError(f'"images" must be a list of base64 strings, got {type(listed).__name__}')
    images = tuple(decode_base64(text, f"images[{i}]") for i, text in enumerate(listed))
    return Intake(images, several=True, found=found)


def _from_hugging_face(document: dict[str, Any], knows: Knows) -> Intake:
    """`{"inputs": base64, "parameters": {…}}`; the parameters of that dialect that make sense here are parameters."""
    check_known(JSON, document, (INPUTS, PARAMETERS), "key")
    given = document.get(PARAMETERS)
    if not isinstance(given, dict | None):
        raise BadBodyError(f'"{PARAMETERS}" must be an object, got {type(given).__name__}')
    parameters = dict(given or {})
    subtask = parameters.pop("subtask", None)
    if subtask not in {None, "semantic"}:
        words = f"masks are of classes, so subtask is semantic, got {str(subtask)[:40]!r}; leave it away"
        raise RequestValidationError([fault(JSON, f"{PARAMETERS}.subtask", words)])
    check_known(f"{JSON}.{PARAMETERS}", parameters, (*knows.names, "subtask"), "parameter")
    image = decode_base64(document[INPUTS], INPUTS)
    return Intake((image,), several=False, found=tuple(in_json(parameters, knows.lists)))


@dataclass(slots=True)
class _Form:
    """What the parts of a form have brought so far."""

    max_images: int
    knows: Knows
    images: list[bytes] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    name: str = ""
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def begin(self, part: PartBegin) -> None:
        """Refuses what nobody knows before its data has come."""
        self.name, self.chunks, self.size = part.name, [], 0
        known = (IMAGE_FIELD, *self.knows.names)
        if part.name not in known:
            is_file = part.is_file or part.name in _LIKE_IMAGE
            words = f"; images are parts named {IMAGE_FIELD!r}: curl -F {IMAGE_FIELD}=@photo.jpg" if is_file else ""
            raise RequestValidationError([fault(FORM, part.name, unknown("form field", part.name, known) + words)])

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.name != IMAGE_FIELD and self.size > MAX_FIELD_BYTES:
            raise BadBodyError(f"the form field {self.name!r} may have {MAX_FIELD_BYTES} bytes; it has more")
        self.chunks.append(data)

    def end(self) -> None:
        content = b"".join(self.chunks)
        if self.name == IMAGE_FIELD:
            self.images.append(content)
            check_count(len(self.images), self.max_images)
        else:
            self.found.append(Found(FORM, self.name, field_text(self.name, content)))


async def _from_multipart(stream: AsyncIterator[bytes], content_type: str, max_images: int, knows: Knows) -> Intake:
    form = _Form(max_images, knows)
    async for event in multipart_events(stream, content_type):
        match event:
            case PartBegin():
                form.begin(event)
            case PartData(data=data):
                form.add(data)
            case PartEnd():
                form.end()
    if not form.images:
        names = ", ".join(dict.fromkeys(one.name for one in form.found))
        raise EmptyBodyError(f'no part is named "{IMAGE_FIELD}"; parts found: {names or "none"}')
    return Intake(tuple(form.images), several=len(form.images) > 1, found=tuple(form.found))


def _checked(intake: Intake, max_images: int) -> Intake:
    if not intake.images or (len(intake.images) == 1 and not intake.images[0]):
        raise EmptyBodyError(f"no image was sent; {FORMS}")
    check_count(len(intake.images), max_images)
    return intake


def check_count(count: int, max_images: int) -> None:
    """`BadParameterError` if there are too many."""
    if count > max_images:
        raise BadParameterError(f"a request may have {max_images} images, got {count} or more")
