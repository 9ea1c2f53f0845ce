"""The gRPC port in front of a small application: who is read, who leaves, and what refusals become."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from typing import Any

import grpc
import pytest
from starlette.types import Receive, Scope, Send

from app.access.gatekeeper import Gatekeeper, KeyRing
from app.access.keys import parse_keys
from app.core.errors import StartupError
from app.rpc.messages import message
from app.rpc.server import CODE_OF, RpcServer
from app.startup.settings import Settings

INFER, INDEX = (f"/inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "RepositoryIndex"))
KEYS = f"one:{sha256(b'secret').hexdigest()}:predict"
WITH_KEY = (("authorization", "Bearer secret"),)


class StubApp:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, status: int = 200, body: Any = None, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.status, self.body, self.headers = status, body if body is not None else [], headers
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.left = asyncio.Event()
        self.waits = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], scope["path"], content, headers))
        while self.waits:
            if (await receive())["type"] == "http.disconnect":
                self.left.set()
                return
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": json.dumps(self.body).encode()})


@asynccontextmanager
async def serving(app: StubApp, **changes: Any) -> Any:
    settings = Settings(grpc_port=0, **changes)
    server = RpcServer(app, settings, Gatekeeper(KeyRing(parse_keys(settings.api_keys))))
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(1)


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[Any]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield caught
    assert caught.value.code() is code


def infer(**fields: Any) -> bytes:
    content: bytes = message("ModelInferRequest")(model_name="a", **fields).SerializeToString()
    return content


def test_a_client_that_leaves_is_told_of_to_the_application() -> None:
    async def work() -> None:
        app = StubApp()
        app.waits = True
        async with serving(app) as channel:
            call = channel.unary_unary(INFER)(infer())
            while not app.asked:
                await asyncio.sleep(0.01)
            call.cancel()
            await app.left.wait()

    run(work)


def test_of_who_has_no_key_nothing_is_read() -> None:
    async def work() -> None:
        app = StubApp(401, {"error": "Unauthorized: no"})
        async with serving(app, api_keys=KEYS) as channel:
            for metadata in ((), (("x-api-key", "wrong"),), (("authorization", "Basic secret"),)):
                with refused(grpc.StatusCode.UNAUTHENTICATED):
                    await channel.unary_unary(INFER)(infer(raw_input_contents=[b"photo"]), metadata=metadata)
            assert {(path, b"photo" in content) for _, path, content, _ in app.asked} == {("/v2/models/-/infer", False)}
            with refused(grpc.StatusCode.UNAUTHENTICATED):
                await channel.unary_unary(INFER)(infer(), metadata=WITH_KEY)
            assert app.asked[-1][1] == "/v2/models/a/infer"

    run(work)


def test_metadata_and_deadlines_become_headers() -> None:
    async def work() -> None:
        app = StubApp()
        async with serving(app) as channel:
            metadata = (*WITH_KEY, ("x-request-id", "7"), ("traceparent", "00-1"), ("cookie", "no"), ("x-a-bin", b"\0"))
            await channel.unary_unary(INDEX)(b"", metadata=metadata, timeout=20)
            headers = app.asked[0][3]
            assert {name: headers[name] for name in ("authorization", "x-request-id", "traceparent")} == {
                "authorization": "Bearer secret", "x-request-id": "7", "traceparent": "00-1",
            }  # fmt: skip
            assert 1 <= int(headers["x-deadline-ms"]) <= 20_100  # gRPC sends tenths of a second, rounded up
            assert not {"cookie", "x-a-bin", "user-agent"} & headers.keys()
            await channel.unary_unary(INDEX)(b"", metadata=(("x-deadline-ms", "5"),), timeout=20)
            await channel.unary_unary(INDEX)(b"")
            assert [asked[3].get("x-deadline-ms") for asked in app.asked[1:]] == ["5", None]

    run(work)


@pytest.mark.parametrize(("status", "code"), [*CODE_OF.items(), (400, None), (413, None), (415, None), (422, None)])
def test_statuses_become_codes(status: int, code: Any) -> None:
    async def work() -> None:
        headers = ((b"retry-after", b"3"), (b"x-request-id", b"7"), (b"content-type", b"application/json"))
        async with serving(StubApp(status, {"error": "in words"}, headers)) as channel:
            with refused(code or grpc.StatusCode.INVALID_ARGUMENT) as caught:
                await channel.unary_unary(INDEX)(b"")
            assert caught.value.details() == "in words"
            assert dict(caught.value.trailing_metadata()) == {"retry-after": "3", "x-request-id": "7"}

    run(work)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"inputs": [{"name": "image"}], "raw_input_contents": [b"", b""]}, "2 tensors, there are 1"),
        ({"inputs": [{"name": "image", "contents": {"bytes_contents": [b"a"]}}], "raw_input_contents": [b""]}, "once"),
        ({"inputs": [{"name": "image", "contents": {"fp32_contents": [1.0]}}]}, "got fp32_contents"),
    ],
)
def test_tensors_that_do_not_hold_together(fields: dict[str, Any], says: str) -> None:
    async def work() -> None:
        app = StubApp()
        async with serving(app) as channel:
            with refused(grpc.StatusCode.INVALID_ARGUMENT) as caught:
                await channel.unary_unary(INFER)(infer(**fields))
            assert says in caught.value.details() and not app.asked

    run(work)


def test_elements_in_contents_are_as_good_as_raw_ones() -> None:
    async def work() -> None:
        app = StubApp(404, {"error": "no"})
        one = {"name": "image", "datatype": "BYTES", "shape": [2]}
        async with serving(app) as channel:
            for fields in (
                {"inputs": [{**one, "contents": {"bytes_contents": [b"ab", b"c"]}}]},
                {"inputs": [one], "raw_input_contents": [b"\2\0\0\0ab\1\0\0\0c"]},
            ):
                with refused(grpc.StatusCode.NOT_FOUND):
                    await channel.unary_unary(INFER)(infer(**fields))
        (_, _, first, _), (_, _, second, _) = app.asked
        assert first == second and first.endswith(b"\2\0\0\0ab\1\0\0\0c")

    run(work)


def test_a_port_that_is_taken_is_said() -> None:
    async def work() -> None:
        first = RpcServer(StubApp(), Settings(grpc_port=0), Gatekeeper(KeyRing(())))
        port = await first.start()
        second = RpcServer(StubApp(), Settings(grpc_port=port), Gatekeeper(KeyRing(())))
        with pytest.raises(StartupError, match=f"gRPC on 127.0.0.1:{port}"):
            await second.start()
        await first.stop(0)

    run(work)
