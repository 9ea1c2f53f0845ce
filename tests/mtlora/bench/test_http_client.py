"""The generator's own client, against answers that are none."""

import asyncio

import pytest

from mtlora.bench.http_client import Client, TransportError
from testing.stub_server import Stub, raw

OK = b"HTTP/1.1 200 OK\r\n"


def ask(url: str) -> int:
    async def work() -> int:
        async with Client(url, timeout_s=10) as client:
            return (await client.request("GET", "/")).status

    return asyncio.run(work())


def test_a_right_answer(stub: Stub) -> None:
    stub.script = [raw(OK + b"Content-Length: 2\r\n\r\nok")]
    assert ask(stub.url) == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 x\r\n\r\n", b"HTTP/1.1 " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"\r\n",
        OK + b"Content-Length: -1\r\n\r\n", OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        OK + b"Content-Length: 99999999999\r\n\r\nx", OK + b"Content-Length: 5\r\n\r\nx",
        OK + b"Content-Length: \xb2\r\n\r\nx", OK + b"X: " + b"a" * 3_000_000, b"\x1b[2J\r\n\r\n",
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_a_failure(answer: bytes, stub: Stub) -> None:
    stub.script = [raw(answer)]
    with pytest.raises(TransportError) as caught:
        ask(stub.url)
    assert str(caught.value).isprintable()


def test_a_host_that_is_none() -> None:
    with pytest.raises(TransportError, match="cannot connect"):
        ask(f"http://{'a' * 70}.example")
