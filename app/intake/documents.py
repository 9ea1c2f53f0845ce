"""Small JSON bodies. Read only once the caller is known, and never more of them than such a document needs."""

from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from app.errors import BadBodyError
from app.intake.stream import bounded_stream, read_all

LIMIT_BYTES = 4096
MAX_VALUES = 10_000  # of a larger document: each small value becomes an object many times its size
M = TypeVar("M", bound=BaseModel)


async def read_document(request: Request, kind: type[M], *, timeout_s: float) -> M:
    """The body as a `kind`; `RequestValidationError` says what is wrong with it."""
    body = await read_all(bounded_stream(request, limit=LIMIT_BYTES, timeout_s=timeout_s))
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error


def check_values(document: bytes) -> None:
    """`BadBodyError` for JSON of more values than any request needs; counted before it is parsed."""
    values = sum(document.count(mark) for mark in (b",", b"[", b"{"))
    if values > MAX_VALUES:
        raise BadBodyError(f"the JSON body may have {MAX_VALUES} values, this one has {values} or more")
