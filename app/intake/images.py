"""The images of a prediction, from any of the three forms of body."""

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from app.errors import BadBodyError, BadParameterError, EmptyBodyError, UnsupportedMediaError
from app.intake.budget import Hold
from app.intake.documents import check_values
from app.intake.multipart import PartBegin, PartData, PartEnd, multipart_events
from app.intake.stream import announced_bytes, bounded_stream, read_all

IMAGE_FIELD = "image"
FORMS = 'send image/* bytes, multipart/form-data with parts named "image", or JSON {"image": base64}'
_DATA_URL = re.compile(r"data:[\w.+/-]*;base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class Intake:
    """Encoded photos as sent, and whether the client expects a list of answers."""

    images: tuple[bytes, ...]
    several: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one request's body."""

    bytes: int
    images: int
    timeout_s: float


def open_body(request: Request, hold: Hold, bounds: Bounds) -> AsyncIterator[bytes]:
    """The body of a prediction as it comes, within its own bounds and those of all bodies together."""
    hold.check(min(announced_bytes(request), bounds.bytes))
    return bounded_stream(request, limit=bounds.bytes, timeout_s=bounds.timeout_s, on_bytes=hold.grow)


async def read_images(request: Request, hold: Hold, bounds: Bounds) -> Intake:
    """Read the body, whatever its form; `RequestError` says what is wrong with it."""
    stream = open_body(request, hold, bounds)
    content_type = request.headers.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
    if media == "multipart/form-data":
        intake = await _from_multipart(stream, content_type, bounds.images)
    elif media == "application/json":
        intake = parse_json(await read_all(stream))
    elif media.startswith("image/"):
        intake = Intake((await read_all(stream),), several=False)
    elif not media and not await read_all(stream):
        raise EmptyBodyError(f"the request has no body; {FORMS}")
    else:
        raise UnsupportedMediaError(f"Content-Type {media[:80]!r} is not understood; {FORMS}")
    return _checked(intake, bounds.images)


def parse_json(body: bytes) -> Intake:
    """Images of a JSON body."""
    if not body:
        raise EmptyBodyError(f"the JSON body is empty; {FORMS}")
    check_values(body)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadBodyError(f"the JSON body cannot be parsed: {str(error)[:200]}") from error
    if not isinstance(document, dict) or len(document.keys() & {"image", "images"}) != 1:
        raise BadBodyError('the JSON body must be an object with either "image" or "images"')
    if "image" in document:
        return Intake((decode_base64(document["image"], "image"),), several=False)
    listed = document["images"]
    if not isinstance(listed, list):
        raise BadBodyError(f'"images" must be a list of base64 strings, got {type(listed).__name__}')
    return Intake(tuple(decode_base64(text, f"images[{i}]") for i, text in enumerate(listed)), several=True)


def decode_base64(text: object, where: str) -> bytes:
    """The bytes of base64, or of a data: URL of it."""
    if not isinstance(text, str):
        raise BadBodyError(f"{where} must be a base64 string, got {type(text).__name__}")
    match = _DATA_URL.match(text)
    try:
        return base64.b64decode(text[match.end() if match else 0 :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadBodyError(f"{where} is not base64: {error}") from error


async def _from_multipart(stream: AsyncIterator[bytes], content_type: str, max_images: int) -> Intake:
    images: list[bytes] = []
    ignored: list[str] = []
    chunks: list[bytes] = []
    field = ""
    async for event in multipart_events(stream, content_type):
        match event:
            case PartBegin(name=field):
                chunks = []
            case PartData(data=data) if field == IMAGE_FIELD:
                chunks.append(data)
            case PartEnd() if field == IMAGE_FIELD:
                images.append(b"".join(chunks))
                check_count(len(images), max_images)
            case PartEnd():
                ignored.append(field)
    if not images:
        raise EmptyBodyError(f'no part is named "{IMAGE_FIELD}"; parts found: {", ".join(ignored)[:200] or "none"}')
    return Intake(tuple(images), several=len(images) > 1)


def _checked(intake: Intake, max_images: int) -> Intake:
    if not intake.images or (len(intake.images) == 1 and not intake.images[0]):
        raise EmptyBodyError(f"no image was sent; {FORMS}")
    check_count(len(intake.images), max_images)
    return intake


def check_count(count: int, max_images: int) -> None:
    """`BadParameterError` if there are too many."""
    if count > max_images:
        raise BadParameterError(f"a request may have {max_images} images, got {count} or more")
