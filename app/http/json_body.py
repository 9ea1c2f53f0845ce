"""Small JSON bodies, read only when the caller is known, and never more than such a document needs."""

import json
from collections import Counter
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from app.core.errors import BadBodyError
from app.http.body_stream import bounded_stream, read_all
from app.http.parameters import JSON, told

LIMIT_BYTES = 4096
MAX_VALUES = 10_000  # of a larger document: each small value becomes an object many times its size
M = TypeVar("M", bound=BaseModel)


async def read_small(request: Request, *, timeout_s: float) -> bytes:
    """A body that is no longer than such a document."""
    return await read_all(bounded_stream(request, limit=LIMIT_BYTES, timeout_s=timeout_s))


def parse_document(body: bytes, kind: type[M]) -> M:
    """A body as a `kind`; `RequestValidationError` or `BadBodyError` says what is wrong with it."""
    try:
        document = kind.model_validate_json(body)
        json.loads(body, object_pairs_hook=without_doubles)
        return document
    except ValidationError as error:
        raise RequestValidationError(told(error.errors(include_url=False), JSON)) from error


def check_values(document: bytes) -> None:
    """`BadBodyError` for JSON of more values than any request needs; counted before it is parsed."""
    values = sum(document.count(mark) for mark in (b",", b"[", b"{"))
    if values > MAX_VALUES:
        raise BadBodyError(f"the JSON body may have {MAX_VALUES} values, this one has {values} or more")


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a document, for `json.loads`; `BadBodyError` if a key comes twice: readers disagree on those."""
    document = dict(pairs)
    if len(document) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise BadBodyError(f"the JSON body has the key {twice[:80]!r} twice")
    return document
