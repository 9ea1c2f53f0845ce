"""API keys over HTTP: every route asks for its scope; a key file changes what running servers let in."""

import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.access.key_file import change_keys
from app.access.keys import Quota, Scope
from app.startup.settings import Settings
from testing.key_files import add, key, remove
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for, wait_until

KEYS = {scope: secrets.token_hex(16) for scope in Scope}
PHOTO = encoded(picture(), "JPEG")


def entry(label: str, secret: str, *scopes: Scope) -> str:
    return f"{label}:{hashlib.sha256(secret.encode()).hexdigest()}:{'+'.join(scopes)}"


ALL = ", ".join(entry(scope.name.lower(), secret, scope) for scope, secret in KEYS.items())


def test_keys_allow_an_address_beyond_loopback() -> None:
    assert Settings(host="0.0.0.0", api_keys=ALL).host == "0.0.0.0"


def test_a_key_file_does_too_and_a_broken_one_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ValueError, match="there is no key file"):
        Settings(keys_file=path)
    change_keys(path, lambda before: before)
    assert Settings(host="0.0.0.0", keys_file=path).host == "0.0.0.0"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not a key file"):
        Settings(keys_file=path)


@pytest.fixture(scope="module")
def guarded(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = settings_for(weights, tmp_path_factory.mktemp("guarded") / "s", api_keys=ALL)
    with live_app(settings) as live:
        yield live


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/predict", Scope.PREDICT),
        ("POST", "/v2/models/default/infer", Scope.PREDICT),
        ("POST", "/v2/models/default/versions/1/infer", Scope.PREDICT),
        ("GET", "/v2/models/default", Scope.PREDICT),
        ("GET", "/v2/models/default/versions/1", Scope.PREDICT),
        ("GET", "/v2/models/default/ready", Scope.PREDICT),
        ("GET", "/v2/models/default/versions/1/ready", Scope.PREDICT),
        ("GET", "/adapters", Scope.ADAPTERS_READ),
        ("GET", "/adapters/default", Scope.ADAPTERS_READ),
        ("GET", "/adapters/default/file", Scope.ADAPTERS_READ),
        ("GET", "/tasks", Scope.ADAPTERS_READ),
        ("POST", "/adapters", Scope.ADAPTERS_WRITE),
        ("DELETE", "/adapters/default", Scope.ADAPTERS_WRITE),
        ("PUT", "/adapters/default/current", Scope.ADAPTERS_WRITE),
        ("PUT", "/adapters/default/pin", Scope.ADAPTERS_WRITE),
        ("DELETE", "/adapters/default/pin", Scope.ADAPTERS_WRITE),
        ("POST", "/adapters/default/load", Scope.ADAPTERS_WRITE),
        ("POST", "/adapters/default/unload", Scope.ADAPTERS_WRITE),
        ("GET", "/metrics", Scope.METRICS),
    ],
)
def test_every_route_asks_for_its_scope(guarded: Live, method: str, path: str, scope: Scope) -> None:
    def ask(**headers: str) -> int:
        return guarded.client.request(method, path, headers=headers).status_code

    unknown = guarded.client.request(method, path)
    assert unknown.status_code == 401
    assert unknown.headers["www-authenticate"] == "Bearer"
    assert ask(Authorization="Bearer wrong") == 401
    for other, secret in KEYS.items():
        status = ask(Authorization=f"Bearer {secret}")
        assert status == ask(**{"X-API-Key": secret})
        assert (status == 403) == (other is not scope)
        assert status != 401


def test_nothing_is_read_of_a_stranger(guarded: Live) -> None:
    """Who has no key gets 401 whatever the body is, and before it is there."""
    for content in (b"{", b"x" * 10_000_000):
        assert guarded.client.put("/adapters/default/current", content=content).status_code == 401
    headers = {"X-API-Key": KEYS[Scope.ADAPTERS_WRITE]}
    for content, status in ((b"{", 400), (b"x" * 10_000, 413), (b'{"revision": 0}', 422), (b"", 400)):
        assert guarded.client.put("/adapters/default/current", content=content, headers=headers).status_code == status


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json", "/favicon.ico"],
)
def test_what_is_open_to_everyone(guarded: Live, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


def test_predict_with_a_key(guarded: Live) -> None:
    headers = {"Content-Type": "image/jpeg", "Authorization": f"Bearer {KEYS[Scope.PREDICT]}"}
    assert httpx.post(f"{guarded.url}/predict", content=PHOTO, headers=headers).status_code == 200


def test_revoking_needs_no_restart(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, key("s", Scope.ADAPTERS_READ), key("t", Scope.ADAPTERS_READ))
    with live_app(settings_for(weights, tmp_path / "store", keys_file=path)) as live:

        def ask(secret: str) -> int:
            return live.client.get("/adapters", headers={"X-API-Key": secret}).status_code

        assert [ask("s"), ask("t"), ask("u")] == [200, 200, 401]
        remove(path, "s")
        wait_until(lambda: ask("s") == 401, 2)
        add(path, key("u", Scope.ADAPTERS_READ))
        wait_until(lambda: ask("u") == 200, 2)
        path.write_text("not a key file")
        assert {ask("t") for _ in range(30)} == {200}
        assert ask("s") == 401


def test_too_many_requests_say_which_quota(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add(path, key("s", Scope.PREDICT, Scope.METRICS, quota=Quota(requests_per_minute=3)), key("m", Scope.METRICS))
    with live_app(settings_for(weights, tmp_path / "store", keys_file=path)) as live:
        headers = {"Content-Type": "image/jpeg", "X-API-Key": "s"}
        answers = [live.client.post("/predict", content=PHOTO, headers=headers) for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        refused = answers[-1]
        assert 15 <= int(refused.headers["retry-after"]) <= 20
        assert refused.json()["type"] == "urn:mtlora:problem:quota"
        assert refused.json()["quota"] == {"name": "requests_per_minute", "limit": 3, "usage": 3}
        text = live.client.get("/metrics", headers={"X-API-Key": "m"}).text
        assert 'mtlora_rejected_total{reason="quota"} 1.0' in text


def test_a_key_says_what_is_computed_where_its_requests_do_not(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    sparing, plain = secrets.token_hex(16), secrets.token_hex(16)
    reads = (Scope.PREDICT, Scope.ADAPTERS_READ)
    add(path, key(sparing, *reads, label="sparing", compute="0.5"), key(plain, *Scope, label="plain"))
    with live_app(settings_for(weights, tmp_path / "s", keys_file=path, compute_default="0.8")) as live:
        everything = {"Authorization": f"Bearer {plain}"}
        content = weights.upload("gated")
        files, name = {"file": content}, {"name": "gated"}
        assert live.client.post("/adapters", files=files, data=name, headers=everything).status_code == 201

        def share(secret: str, query: str = "") -> float:
            headers = {"Authorization": f"Bearer {secret}", "Content-Type": "image/jpeg"}
            answer = live.client.post(f"/predict?adapter=gated{query}", content=PHOTO, headers=headers)
            assert answer.status_code == 200, answer.text
            return float(answer.headers["x-compute-share"])

        assert 0.4 < share(sparing) <= 0.5  # as the key says
        assert 0.5 < share(plain) <= 0.8  # as the server says
        assert share(sparing, "&compute=1") == 1  # as the request says
        for secret, default in ((sparing, "0.5"), (plain, "0.8")):
            seen = live.client.get("/adapters/gated", headers={"Authorization": f"Bearer {secret}"}).json()
            assert seen["default_compute"] == default
        ungated = live.client.post("/predict", content=PHOTO, headers={"Authorization": f"Bearer {sparing}"})
        assert ungated.status_code == 200  # a default is no demand: what has no policy is computed in full
