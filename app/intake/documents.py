"""Small JSON bodies. Read only once the caller is known, and never more of them than such a document needs."""

from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from app.intake.stream import bounded_stream, read_all

LIMIT_BYTES = 4096
M = TypeVar("M", bound=BaseModel)


async def read_document(request: Request, kind: type[M], *, timeout_s: float) -> M:
    """The body as a `kind`; `RequestValidationError` says what is wrong with it."""
    body = await read_all(bounded_stream(request, limit=LIMIT_BYTES, timeout_s=timeout_s))
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error
