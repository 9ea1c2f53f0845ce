"""Two server processes on one store: each sees what the other changed; what is pinned is loaded before it is used."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from testing.serving import ServerProcess, Weights, encoded, picture, wait_until

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}
SOON_S = 3.0  # a second is promised, and busy machines are forgiven


@pytest.fixture(scope="module")
def servers(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("shared")
    started: list[ServerProcess] = []
    try:
        started.append(ServerProcess(weights, folder / "store", grace_s=5))
        started.append(ServerProcess(weights, folder / "store", grace_s=5))
        for server in started:
            server.wait_ready()
        yield started[0].url, started[1].url
    finally:
        for server in started:
            server.stop()


def upload(url: str, content: bytes, name: str, **fields: str) -> int:
    answer = httpx.post(f"{url}/adapters", files={"file": content}, data={"name": name, **fields}, timeout=30)
    return answer.status_code


def predict(url: str, adapter: str) -> httpx.Response:
    return httpx.post(f"{url}/predict?adapter={adapter}", content=PHOTO, headers=JPEG, timeout=30)


def shown(url: str, name: str) -> dict[str, object]:
    document: dict[str, object] = httpx.get(f"{url}/adapters/{name}", timeout=30).json()
    return document


def soon(condition: Callable[[], bool]) -> None:
    start = time.monotonic()
    wait_until(condition)
    assert time.monotonic() - start < SOON_S


def test_uploads_are_never_denied(servers: tuple[str, str], weights: Weights) -> None:
    one, two = servers
    assert upload(one, weights.upload("cats"), "fresh") == 201
    assert predict(two, "fresh").status_code == 200
    assert upload(two, weights.upload("dogs"), "fresh", activate="false") == 201
    assert predict(one, "fresh@2").json()["adapter"]["revision"] == 2
    assert httpx.put(f"{one}/adapters/fresh/current", json={"revision": 2}, timeout=30).status_code == 200
    soon(lambda: predict(two, "fresh").json()["adapter"]["revision"] == 2)


def test_pins_and_new_revisions_of_pinned_sets_are_loaded_before_they_are_used(
    servers: tuple[str, str], weights: Weights
) -> None:
    one, two = servers
    upload(one, weights.upload("cats"), "kept")
    httpx.put(f"{one}/adapters/kept/pin", timeout=30)
    soon(lambda: shown(two, "kept")["pinned"] is True and shown(two, "kept")["tier"] == "device")
    assert httpx.post(f"{two}/adapters/kept/unload", timeout=30).status_code == 409
    assert predict(two, "kept").headers["x-adapter-cold"] == "0"
    assert upload(one, weights.upload("dogs"), "kept") == 201
    answers: list[httpx.Response] = []

    def second_answers() -> bool:
        answers.append(predict(two, "kept"))
        revision: int = answers[-1].json()["adapter"]["revision"]
        return revision == 2

    soon(second_answers)
    assert {answer.headers["x-adapter-cold"] for answer in answers} == {"0"}  # neither revision was waited for
    httpx.delete(f"{one}/adapters/kept/pin", timeout=30)
    soon(lambda: shown(two, "kept")["pinned"] is False)
    assert httpx.post(f"{two}/adapters/kept/unload", timeout=30).json()["tier"] == "disk"


def test_deleted_sets_leave_every_memory(servers: tuple[str, str], weights: Weights) -> None:
    one, two = servers
    upload(one, weights.upload("birds"), "gone")
    for url in servers:
        assert predict(url, "gone").status_code == 200
    sets = {url: _metric(url, 'mtlora_adapters{tier="device"}') for url in servers}
    assert httpx.delete(f"{one}/adapters/gone", timeout=30).status_code == 204
    assert predict(one, "gone").status_code == 404
    soon(lambda: predict(two, "gone").status_code == 404)
    for url, before in sets.items():  # names that a server has only looked up are denied before memory is freed
        soon(lambda url=url, before=before: _metric(url, 'mtlora_adapters{tier="device"}') == before - 1)
        soon(lambda url=url: _metric(url, 'mtlora_adapter_evictions_total{reason="delete",tier="host"}') >= 1)


def test_uploads_of_one_name_to_both_at_once_all_count(servers: tuple[str, str], weights: Weights) -> None:
    names = ("cats", "dogs", "birds")
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(upload, url, weights.upload(name), "both") for name in names for url in servers]
    assert sorted(call.result() for call in calls) == [200] * 3 + [201] * 3
    for url in servers:
        soon(lambda url=url: [r["revision"] for r in _revisions(url, "both")] == [1, 2, 3])


def _revisions(url: str, name: str) -> list[dict[str, object]]:
    found = shown(url, name)["revisions"]
    return found if isinstance(found, list) else []


def _metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))
