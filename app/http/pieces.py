"""Answers in pieces, sent one after the other: never joined, and each freed once it is sent."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_JOINED_BYTES = 1 << 18  # small pieces travel together
_SENT_BYTES = 1 << 20  # at once: what is copied on the way stays small


class PiecesResponse(Response):
    """Bytes that are known, in pieces."""

    def __init__(
        self,
        pieces: Sequence[bytes | memoryview],
        status: int,
        headers: Mapping[str, str],
        media_type: str,
        on_sent: Callable[[int], None],
    ) -> None:
        """on_sent: told how many bytes there were, when they are sent or nobody takes them any more"""
        self._pieces = deque(piece for piece in pieces if piece)
        self._on_sent = on_sent
        self._size = sum(map(len, pieces))
        super().__init__(None, status, {**headers, "Content-Length": str(self._size)}, media_type)

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while self._pieces:
                await send({"type": "http.response.body", "body": self._next(), "more_body": bool(self._pieces)})
            if not self._size:
                await send({"type": "http.response.body", "body": b""})
        finally:
            self._pieces.clear()
            self._on_sent(self._size)

    def _next(self) -> bytes:
        """Some small pieces, or a part of a large one."""
        if len(self._pieces[0]) > _SENT_BYTES:
            large = memoryview(self._pieces.popleft())
            self._pieces.appendleft(large[_SENT_BYTES:])
            return bytes(large[:_SENT_BYTES])
        size = 0
        some: list[bytes | memoryview] = []
        while self._pieces and (not some or size + len(self._pieces[0]) <= _JOINED_BYTES):
            some.append(self._pieces.popleft())
            size += len(some[-1])
        return b"".join(some)
