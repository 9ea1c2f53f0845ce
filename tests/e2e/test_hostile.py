"""Hundreds of malformed requests against one real server while good clients use it: each is refused as documented,
none of it is a 5xx or a hang, nothing changes, and the good clients notice nothing."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing.serving import ServerProcess, Weights, encoded, picture, wait_until
from tests.e2e.hostile import CASES
from tests.e2e.hostile_requests import Case

PHOTO = encoded(picture(200, 150), "JPEG")
PATIENCE_S = 20.0
MOST_GROWTH_BYTES = 500 * 2**20


class GoodClient(threading.Thread):
    """Asks the same again and again, and remembers every answer that is not the first one's."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self.wrong: list[str] = []
        self.answers = 0
        self._client = httpx.Client(base_url=url, timeout=PATIENCE_S)
        self._first = self._ask()

    def run(self) -> None:
        while not self.stopping.wait(0.02):
            try:
                answer = self._ask()
            except (httpx.HTTPError, AssertionError) as error:
                self.wrong.append(repr(error))
                continue
            self.answers += 1
            if answer != self._first:
                self.wrong.append(str(answer)[:300])

    def _ask(self) -> tuple[Any, Any]:
        predicted = self._client.post("/predict", content=PHOTO, headers={"Content-Type": "image/jpeg"})
        listed = self._client.get("/adapters")
        assert (predicted.status_code, listed.status_code) == (200, 200), (predicted.text, listed.text)
        sets = [(s["name"], s["current"], s["digest"]) for s in listed.json()["adapters"]]
        return predicted.json()["tasks"], sets


@pytest.fixture(scope="module")
def server(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    limits = {"max_image_pixels": 2_000_000, "max_body_bytes": 2_000_000, "max_adapter_bytes": 2_500_000}
    process = ServerProcess(
        weights, tmp_path_factory.mktemp("hostile") / "store", **limits, body_timeout_s=5, header_timeout_s=5
    )
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def good(server: ServerProcess) -> Iterator[GoodClient]:
    client = GoodClient(server.url)
    client.start()
    yield client
    client.stopping.set()
    client.join(PATIENCE_S)


@pytest.fixture(scope="module")
def answered() -> list[str]:
    """Identifiers of all answers to hostile requests so far."""
    return []


@pytest.fixture(scope="module")
def hostile(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        yield client


def test_there_are_enough_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 300


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(
    server: ServerProcess,
    good: GoodClient,
    hostile: httpx.Client,
    answered: list[str],
    weights: Weights,
    case: Case,
) -> None:
    request = case.make(weights)
    if request.raw:
        status = _say(server, request.raw)
    else:
        answer = hostile.post(request.path, content=request.body, headers=_latin(request.headers))
        status = answer.status_code
        answered.append(answer.headers["x-request-id"])
        if status >= 400 and request.path.startswith("/v2"):
            assert list(answer.json()) == ["error"]
        elif status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
    assert status in case.expected


def test_good_clients_noticed_nothing(server: ServerProcess, good: GoodClient, weights: Weights) -> None:
    before = good.answers
    wait_until(lambda: good.answers >= before + 2 or bool(good.wrong), PATIENCE_S)  # one was asked for after all cases
    assert good.wrong == []
    assert {s["name"] for s in httpx.get(f"{server.url}/adapters").json()["adapters"]} == {"default", "people"}
    store = Path(server.log).with_suffix("")
    assert list((store / "incoming").iterdir()) == []
    assert list((store / "sets").rglob("*.safetensors")) == []


def test_the_server_is_well(server: ServerProcess, good: GoodClient, answered: list[str]) -> None:
    assert server.process.poll() is None
    bugs = [line for line in server.logged() if "exception" in line or line["message"] == "unhandled error"]
    assert bugs == []
    wait_until(lambda: {line["request_id"] for line in _requests(server)} >= set(answered))
    failed = {line["status"] for line in _requests(server) if line["status"] >= 500}
    assert failed <= {501, 505}  # HTTP that we do not speak
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    peak, now = (int(status.split(f"{key}:")[1].split()[0]) * 1024 for key in ("VmHWM", "VmRSS"))
    assert peak - now < MOST_GROWTH_BYTES


def _requests(server: ServerProcess) -> list[dict[str, Any]]:
    return [line for line in server.logged() if line["message"] == "request"]


def _say(server: ServerProcess, raw: bytes) -> int:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as sock:
        sock.sendall(raw)
        first = sock.recv(65536)
    return int(first.split(b" ", 2)[1])


def _latin(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
