"""Answers in pieces are the same bytes as in one, with their length, in messages of bounded size."""

import asyncio

import pytest
from starlette.types import Message

from app.http.pieces import PiecesResponse


async def sent(pieces: list[bytes | memoryview]) -> tuple[list[Message], list[int]]:
    messages: list[Message] = []
    sizes: list[int] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    response = PiecesResponse(pieces, 207, {"X-A": "b"}, "application/octet-stream", sizes.append)
    await response({"type": "http"}, receive, send)
    return messages, sizes


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [b"a"],
        [b"a", b"", b"bc"],
        [b"a", bytes(300_000), b"b", bytes(range(256)) * 20_000, b"c"],
        [memoryview(bytes(range(256)) * 10_000)[5:]],
    ],
)
def test_pieces_are_the_answer(pieces: list[bytes | memoryview]) -> None:
    async def scenario() -> None:
        messages, sizes = await sent(pieces)
        whole = b"".join(pieces)
        start, *bodies = messages
        assert (start["type"], start["status"]) == ("http.response.start", 207)
        assert dict(start["headers"])[b"content-length"] == str(len(whole)).encode()
        assert dict(start["headers"])[b"x-a"] == b"b"
        assert b"".join(body["body"] for body in bodies) == whole
        assert [body.get("more_body", False) for body in bodies] == [True] * (len(bodies) - 1) + [False]
        assert all(len(body["body"]) <= 1 << 20 for body in bodies)
        assert sizes == [len(whole)]

    asyncio.run(scenario())


def test_small_pieces_travel_together() -> None:
    async def scenario() -> None:
        messages, _ = await sent([b"x"] * 10_000)
        assert len(messages) == 2

    asyncio.run(scenario())
