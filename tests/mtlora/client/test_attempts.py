"""What is sent again and what is not, seen by the server that is asked."""

import inspect
import io
from pathlib import Path

import numpy as np
import pytest

from mtlora.client import AsyncClient, Client, Retry
from mtlora.vocabulary.errors import BadAnswerError, LostAnswerError, RefusedError, RemoteError, UnreachableError
from testing.asking import KINDS, ask
from testing.serving import free_port
from testing.stub_server import HANG_UP, Say, Stub, problem

QUICK = Retry(first_s=0.01, longest_s=0.02, budget_s=5)
SECRET = "mtlora_a-secret-that-nobody-may-see"
both = pytest.mark.parametrize("kind", KINDS)


def npz() -> Say:
    buffer = io.BytesIO()
    np.savez(buffer, semseg=np.full((2, 3), 7, np.uint8))
    return Say(200, buffer.getvalue(), {"Content-Type": "application/x-npz", "X-Adapter-Revision": "cats@3"})


@both
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(kind: str, status: int, stub: Stub) -> None:
    stub.script = [problem(status), problem(status), npz()]
    found = ask(kind, stub.url, lambda c: c.predict(b"photo", tasks="semseg"), retry=QUICK)
    assert (found.semseg == 7).all()
    assert found.adapter == "cats@3"
    assert [asked.body for asked in stub.asked] == [b"photo"] * 3


@both
def test_not_before_it_says(kind: str, stub: Stub) -> None:
    stub.script = [problem(429, after="1"), npz()]
    ask(kind, stub.url, lambda c: c.predict(b"photo"), retry=QUICK)
    assert stub.asked[1].at_s - stub.asked[0].at_s >= 1.0


@both
def test_a_wait_beyond_the_budget_is_an_error_at_once(kind: str, stub: Stub) -> None:
    stub.script = [problem(429, "quota", after="3600", quota={"name": "requests_per_minute", "limit": 1, "usage": 1})]
    with pytest.raises(RefusedError, match="because quota") as caught:
        ask(kind, stub.url, lambda c: c.predict(b"photo"), retry=QUICK)
    assert (caught.value.retry_after_s, caught.value.quota) == (3600, "requests_per_minute")
    assert len(stub.asked) == 1


@both
def test_attempts_are_bounded(kind: str, stub: Stub) -> None:
    stub.script = [problem(503, "not-ready")]
    with pytest.raises(RefusedError, match="because not-ready"):
        ask(kind, stub.url, lambda c: c.predict(b"photo"), retry=QUICK)
    assert len(stub.asked) == QUICK.attempts


@both
def test_what_waiting_cannot_help_is_not_waited_for(kind: str, stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x")
    stub.script = [problem(429, "quota", quota={"name": "max_sets", "limit": 1, "usage": 1})]
    with pytest.raises(RefusedError, match="because quota"):
        ask(kind, stub.url, lambda c: c.push(tmp_path / "a.safetensors"), retry=QUICK)
    stub.script = [problem(422, "bad-image", errors=[{"detail": "torn", "where": "image"}, {"detail": "odd"}])]
    with pytest.raises(RefusedError, match="torn") as caught:
        ask(kind, stub.url, lambda c: c.predict(b"photo"), retry=QUICK)
    assert caught.value.problems == ("image: torn", "odd")
    assert caught.value.request_id == "r-1"
    assert len(stub.asked) == 2


@both
def test_a_broken_connection_is_tried_again_where_that_is_harmless(kind: str, stub: Stub) -> None:
    stub.script = [Say(HANG_UP), npz()]
    assert ask(kind, stub.url, lambda c: c.predict(b"photo"), retry=QUICK).semseg.shape == (2, 3)
    assert len(stub.asked) == 2


@both
def test_a_deletion_whose_answer_is_lost_is_not_sent_again(kind: str, stub: Stub) -> None:
    stub.script = [Say(HANG_UP), Say(204)]
    with pytest.raises(LostAnswerError, match="whether it had an effect is unknown"):
        ask(kind, stub.url, lambda c: c.delete("cats"), retry=QUICK)
    assert len(stub.asked) == 1


@both
def test_a_refused_deletion_is_sent_again(kind: str, stub: Stub) -> None:
    stub.script = [problem(503, "not-ready"), Say(204)]
    ask(kind, stub.url, lambda c: c.delete("cats", 2), retry=QUICK)
    assert [(a.method, a.path) for a in stub.asked] == [("DELETE", "/adapters/cats?revision=2")] * 2


@both
def test_an_upload_is_sent_whole_every_time(kind: str, stub: Stub, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "a.safetensors").write_bytes(content)
    stub.script = [problem(503, "not-ready"), Say(HANG_UP), problem(422, "adapter-refused")]
    with pytest.raises(RefusedError, match="because adapter-refused"):
        ask(kind, stub.url, lambda c: c.push(tmp_path / "a.safetensors", "cats"), retry=QUICK)
    assert [content in asked.body for asked in stub.asked] == [True] * 3


@both
def test_a_timeout_is_an_error_and_adds_no_load(kind: str, stub: Stub) -> None:
    stub.script = [Say(200, after_s=1.0)]
    with pytest.raises(LostAnswerError, match=r"POST http://.*/predict got no whole answer: "):
        ask(kind, stub.url, lambda c: c.predict(b"photo"), retry=QUICK, timeout_s=0.2)
    assert len(stub.asked) == 1


@both
def test_no_server(kind: str) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=rf"cannot reach {address}/, after 5 attempts"):
        ask(kind, address, lambda c: c.adapters(), retry=QUICK)


@both
def test_status_is_an_answer_even_if_it_is_no(kind: str, stub: Stub) -> None:
    stub.script = [problem(503, "not-ready", errors=[{"detail": "warming up"}])]
    found = ask(kind, stub.url, lambda c: c.status(), retry=QUICK)
    assert (found.status, found.ready, found.waiting_for) == ("not-ready", False, ("warming up",))
    assert len(stub.asked) == 1
    stub.script = [Say(503, b"<html>proxy</html>", {"Content-Type": "text/html"})]
    with pytest.raises(RefusedError, match="answered 503, text/html: <html>proxy"):
        ask(kind, stub.url, lambda c: c.status(), retry=QUICK)


@both
def test_other_servers_are_recognised(kind: str, stub: Stub) -> None:
    stub.script = [Say(200, b'{"hello": 1}', {"Content-Type": "application/json"})]
    with pytest.raises(BadAnswerError, match="default: Field required"):
        ask(kind, stub.url, lambda c: c.adapters())
    with pytest.raises(BadAnswerError, match=r"answered no \.npz"):
        ask(kind, stub.url, lambda c: c.predict(b"photo"))
    with pytest.raises(BadAnswerError, match="answered no zip of maps"):
        ask(kind, stub.url, lambda c: c.pictures(b"photo"))


@both
def test_the_key_is_sent_to_its_server_only_and_is_in_no_message(
    kind: str, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stub() as other:
        stub.script = [Say(307, headers={"Location": f"{other.url}/adapters"})]
        with pytest.raises(RefusedError) as caught:
            ask(kind, stub.url, lambda c: c.adapters(), key=SECRET)
        assert other.asked == []
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("MTLORA_KEY", SECRET + "\n")
    with pytest.raises(RefusedError):
        ask(kind, stub.url, lambda c: c.adapters())
    assert [asked.headers["Authorization"] for asked in stub.asked] == [f"Bearer {SECRET}"] * 2
    with pytest.raises(RemoteError, match="characters that no key has") as odd:
        ask(kind, stub.url, lambda c: c.adapters(), key="two words " + SECRET)
    assert SECRET not in str(odd.value)


@pytest.mark.parametrize("address", ["", "127.0.0.1:8000", "ftp://x", "http://"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(RemoteError, match="a server's address looks like"):
        Client(address)


def test_a_server_below_a_path(stub: Stub) -> None:
    stub.script = [Say(204)]
    ask("Client", f"{stub.url}/maps", lambda c: c.delete("ca ts/../x"))
    assert stub.asked[0].path == "/maps/adapters/ca%20ts%2F..%2Fx"


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, str]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: str(inspect.signature(method)) for name, method in found if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)
