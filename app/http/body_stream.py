"""Bodies as bounded streams: never more bytes than the limit are held, and never for longer than the timeout."""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.requests import ClientDisconnect, Request

from app.core.errors import BadBodyError, BodyTooLargeError, BodyTooSlowError, ClientGoneError, UnsupportedMediaError


def announced_bytes(request: Request) -> int:
    """How long the client says the body is; 0 if it does not say."""
    announced = request.headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdecimal()):
        raise BadBodyError(f"Content-Length must be a number, got {announced[:40]!r}")
    return int(announced)


async def bounded_stream(
    request: Request,
    *,
    limit: int,
    timeout_s: float,
    on_bytes: Callable[[int], object] = lambda _: None,
    setting: str = "",
) -> AsyncIterator[bytes]:
    """The chunks of a body; refused before reading if it announces too much, and while reading if it holds too much.

    on_bytes: told of the size of every chunk, and may refuse it
    setting: what the limit follows from, for whoever may change it
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaError(f"bodies are sent as they are, got Content-Encoding {encoding[:40]!r}")
    where = f" ({setting})" if setting else ""
    announced = announced_bytes(request)
    if announced > limit:
        raise BodyTooLargeError(f"the body has {announced} bytes, this server takes {limit}{where}")
    received = 0
    chunks = request.stream()
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise BodyTooSlowError(f"the body must arrive within {timeout_s:g} s; {received} bytes did") from None
        except ClientDisconnect:
            raise ClientGoneError(f"the client left after {received} bytes of the body") from None
        if chunk is None:
            return
        received += len(chunk)
        if received > limit:
            raise BodyTooLargeError(f"the body has more than the {limit} bytes that this server takes{where}")
        on_bytes(len(chunk))
        if chunk:
            yield chunk


async def read_all(stream: AsyncIterator[bytes]) -> bytes:
    """The whole body of a bounded stream."""
    return b"".join([chunk async for chunk in stream])
