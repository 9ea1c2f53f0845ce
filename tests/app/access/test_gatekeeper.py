"""Who is let in: scopes, expiry, rates, and a key file that changes while the server runs."""

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.access.gatekeeper import LOOK_AGAIN_S, Gatekeeper, KeyRing
from app.access.key_file import change_keys
from app.access.keys import Caller, Quota, Scope, parse_keys
from app.core.errors import ForbiddenError, KeyFileError, QuotaError, UnauthorizedError
from testing.clocks import Clock
from testing.key_files import add, key, remove


def test_without_keys_everything_is_open() -> None:
    assert Gatekeeper(KeyRing(parse_keys(""))).admit(None, Scope.METRICS) == Caller()


def test_keys_open_what_their_scopes_say() -> None:
    gate = Gatekeeper(KeyRing((key("secret", Scope.PREDICT, Scope.METRICS, label="both"),)))
    assert gate.admit("secret", Scope.PREDICT) == gate.admit("secret", Scope.METRICS) == Caller(label="both")
    with pytest.raises(ForbiddenError, match="'both' lacks the scope 'adapters:write'"):
        gate.admit("secret", Scope.ADAPTERS_WRITE)
    for wrong in (None, "", "Secret", "secret ", "ß"):
        with pytest.raises(UnauthorizedError):
            gate.admit(wrong, Scope.PREDICT)


def test_a_caller_has_the_keys_name_space_and_quota() -> None:
    quota = Quota(max_sets=2)
    caller = Gatekeeper(KeyRing((key("s", namespace="acme", quota=quota),))).admit("s", Scope.PREDICT)
    assert caller == Caller(label="s", namespace="acme", quota=quota)


def test_who_it_is_is_known_even_of_those_who_may_not() -> None:
    over = datetime.now(UTC) - timedelta(seconds=1)
    gate = Gatekeeper(KeyRing((key("s", namespace="acme"), key("old", expires=over))))
    known: list[Caller] = []
    for secret in ("s", "old", "nobody", None):
        with pytest.raises((ForbiddenError, UnauthorizedError)):
            gate.admit(secret, Scope.METRICS, known=known.append)
    assert known == [Caller(label="s", namespace="acme"), Caller(label="old")]


def test_expired_keys_are_out() -> None:
    over = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(UnauthorizedError, match="'s' has expired"):
        Gatekeeper(KeyRing((key("s", expires=over),))).admit("s", Scope.PREDICT)


def test_requests_per_minute() -> None:
    gate = Gatekeeper(KeyRing((key("s", quota=Quota(requests_per_minute=2)), key("free"))))
    for _ in range(2):
        gate.admit("s", Scope.PREDICT)
    with pytest.raises(QuotaError, match="may make 2 requests a minute") as caught:
        gate.admit("s", Scope.PREDICT)
    assert (caught.value.name, caught.value.limit, caught.value.usage) == ("requests_per_minute", 2, 2)
    assert 25 < caught.value.retry_after_s <= 30
    for _ in range(100):
        gate.admit("free", Scope.PREDICT)


def test_an_empty_key_file_is_closed_not_open(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    change_keys(path, lambda before: before)
    with pytest.raises(UnauthorizedError):
        Gatekeeper(KeyRing((), path)).admit(None, Scope.PREDICT)


def test_a_server_does_not_start_with_a_file_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="there is no key file"):
        KeyRing((), tmp_path / "keys.json")
    add(tmp_path / "keys.json", key("s", label="twice"))
    with pytest.raises(KeyFileError, match="got one more than once: twice; MTLORA_API_KEYS counts too"):
        KeyRing((key("other", label="twice"),), tmp_path / "keys.json")


def test_changes_count_within_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    add(path, key("old"))
    gate = Gatekeeper(KeyRing((key("fixed"),), path, clock=clock))
    assert gate.admit("old", Scope.PREDICT).label == "old"
    remove(path, "old")
    add(path, key("new"))
    clock.now += LOOK_AGAIN_S
    with caplog.at_level(logging.INFO), pytest.raises(UnauthorizedError):
        gate.admit("old", Scope.PREDICT)
    assert gate.admit("new", Scope.PREDICT).label == "new"
    assert gate.admit("fixed", Scope.PREDICT).label == "fixed"
    (line,) = [vars(r) for r in caplog.records if r.name == "mtlora.audit"]
    assert (line["action"], line["outcome"], line["added"], line["removed"]) == (
        "reload-keys",
        "done",
        ["new"],
        ["old"],
    )


@pytest.mark.parametrize("damage", ["text", "gone", "mode", "conflict"])
def test_a_file_that_became_unreadable_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    add(path, key("old"))
    gate = Gatekeeper(KeyRing((key("fixed"),), path, clock=clock))
    kept = path.read_bytes()
    if damage == "text":
        path.write_text('{"keys": [')
    elif damage == "gone":
        path.unlink()
    elif damage == "mode":
        path.chmod(0o666)
        os.utime(path, ns=(1, 1))
    else:
        add(path, key("x", label="fixed"))
    for _ in range(3):
        clock.now += LOOK_AGAIN_S
        assert gate.admit("old", Scope.PREDICT).label == "old"
        with pytest.raises(UnauthorizedError):
            gate.admit(None, Scope.PREDICT)
    assert [r.levelname for r in caplog.records if "not taken over" in r.message] == ["ERROR"]  # once, not each second
    path.unlink(missing_ok=True)
    path.write_bytes(kept)
    path.chmod(0o600)
    remove(path, "old")
    clock.now += LOOK_AGAIN_S
    with pytest.raises(UnauthorizedError):
        gate.admit("old", Scope.PREDICT)
