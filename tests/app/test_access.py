"""API keys: parsed, compared, scoped; over HTTP every route asks for its scope."""

import hashlib
import secrets
from collections.abc import Iterator

import httpx
import pytest

from app.access import Caller, Gatekeeper, Scope, parse_keys
from app.errors import ForbiddenError, UnauthorizedError
from app.settings import Settings
from tests.serving import Live, Weights, encoded, live_app, picture, settings_for

KEYS = {scope: secrets.token_hex(16) for scope in Scope}
PHOTO = encoded(picture(), "JPEG")


def entry(label: str, key: str, *scopes: Scope) -> str:
    return f"{label}:{hashlib.sha256(key.encode()).hexdigest()}:{'+'.join(scopes)}"


ALL = ", ".join(entry(scope.name.lower(), key, scope) for scope, key in KEYS.items())


def test_without_keys_everything_is_open() -> None:
    assert Gatekeeper(parse_keys("")).admit(None, Scope.METRICS) == Caller()


def test_keys_open_what_their_scopes_say() -> None:
    gate = Gatekeeper(parse_keys(entry("both", "secret", Scope.PREDICT, Scope.METRICS)))
    assert gate.admit("secret", Scope.PREDICT) == gate.admit("secret", Scope.METRICS) == Caller("both")
    with pytest.raises(ForbiddenError, match="'both' lacks the scope 'adapters:write'"):
        gate.admit("secret", Scope.ADAPTERS_WRITE)
    for wrong in (None, "", "Secret", "secret ", "ß"):
        with pytest.raises(UnauthorizedError):
            gate.admit(wrong, Scope.PREDICT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plain-key", "is written LABEL:SHA256:SCOPE"),
        ("a:1234:predict", "64 lower-case hex"),
        (f"a:{'0' * 64}:", "unknown scope in ''"),
        (f"a:{'0' * 64}:predict+all", "known: predict, adapters:read"),
        (f"a:{'0' * 64}:predict,a:{'1' * 64}:predict", "must differ"),
    ],
)
def test_entries_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("+", r"\+")):
        parse_keys(text)


def test_keys_allow_an_address_beyond_loopback() -> None:
    assert Settings(host="0.0.0.0", api_keys=ALL).host == "0.0.0.0"


@pytest.fixture(scope="module")
def guarded(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = settings_for(weights, tmp_path_factory.mktemp("guarded") / "s", api_keys=ALL)
    with live_app(settings) as live:
        yield live


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/predict", Scope.PREDICT),
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
    for other, key in KEYS.items():
        status = ask(Authorization=f"Bearer {key}")
        assert status == ask(**{"X-API-Key": key})
        assert (status == 403) == (other is not scope)
        assert status != 401


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/", "/docs", "/openapi.json", "/favicon.ico"])
def test_what_is_open_to_everyone(guarded: Live, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


def test_predict_with_a_key(guarded: Live) -> None:
    headers = {"Content-Type": "image/jpeg", "Authorization": f"Bearer {KEYS[Scope.PREDICT]}"}
    assert httpx.post(f"{guarded.url}/predict", content=PHOTO, headers=headers).status_code == 200
