"""A server that is not what it should be, byte by byte: both clients, every method. Errors are the library's own."""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtlora.client import Limits, Retry
from mtlora.vocabulary.errors import BadAnswerError, LostAnswerError, RefusedError, RemoteError
from testing.asking import KINDS, ask
from testing.stub_server import Say, Stub, drip, raw

ONCE = Retry(attempts=1)
SMALL = Limits(document_bytes=100_000, maps_bytes=100_000, refusal_bytes=50_000)
OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
READY = b'{"status": "ready"}'
both = pytest.mark.parametrize("kind", KINDS)

METHODS: dict[str, Callable[[Any], Any]] = {
    "predict": lambda c: c.predict(b"photo"),
    "pictures": lambda c: c.pictures(b"photo"),
    "overlay": lambda c: c.overlay(b"photo", "semseg"),
    "status": lambda c: c.status(),
    "adapters": lambda c: c.adapters(),
    "adapter": lambda c: c.adapter("cats"),
    "activate": lambda c: c.activate("cats", 2),
    "pin": lambda c: c.pin("cats"),
    "unpin": lambda c: c.unpin("cats"),
    "load": lambda c: c.load("cats"),
    "unload": lambda c: c.unload("cats"),
    "delete": lambda c: c.delete("cats"),
    "push": lambda c: c.push(Path(__file__)),
}

RAW = {
    "nothing": (b"",),
    "garbage": (b"\0\1\2garbage\r\n\r\n",),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n",),
    "half a head": (OK + b"Content-Le",),
    "length too long": (OK + b"Content-Length: 1000\r\n\r\nx",),
    "length of 5000 digits": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx",),
    "length is no number": (OK + b"Content-Length: x\r\n\r\nx",),
    "two lengths": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",),
    "chunk without a size": (OK + CHUNKED + b"\r\nzz\r\nx\r\n",),
    "chunk of 2^80": (OK + CHUNKED + b"\r\n" + b"f" * 20 + b"\r\nx",),
    "unknown transfer": (OK + b"Transfer-Encoding: gzip\r\n\r\nx",),
    "switched": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\nxyz",),
    "status 999": (b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",),
    "status 206": (b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx",),
    "status 304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",),
    "header of 1 MB": (OK + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",),
    "many headers": (OK + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 100) for n in range(3000)) + b"\r\n",),
    "odd header": (OK + b"X\x00Y: 1\r\n\r\n",),
    "redirect to nowhere": (b"HTTP/1.1 307 X\r\nLocation: //[\r\nContent-Length: 0\r\n\r\n",),
    "odd cookie": (b"HTTP/1.1 422 X\r\nSet-Cookie: \xff=;;Expires=99999999999\r\nContent-Length: 0\r\n\r\n",),
    "packed by br": (OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx",),
    "packed twice": (OK + b"Content-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\nx",),
    "not packed": (OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",),
    "odd charset": (OK + b"Content-Type: application/json; charset=hex\r\nContent-Length: 3\r\n\r\nxyz",),
    "nasty words": (OK + b"Content-Type: text/\x9b31m\r\nContent-Length: 3\r\n\r\nxyz",),
}  # fmt: skip


@both
@pytest.mark.parametrize("name", RAW)
def test_every_method_fails_in_words(kind: str, name: str, stub: Stub) -> None:
    stub.script = [raw(*RAW[name])]
    for method, question in METHODS.items():
        with pytest.raises(RemoteError) as caught:
            ask(kind, stub.url, question, retry=ONCE, limits=SMALL, timeout_s=10)
        assert all(line.isprintable() for line in str(caught.value).split("\n")), method
        assert len(str(caught.value)) < 2000


ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "body": lambda: itertools.chain([OK + JSON + b"\r\n"], itertools.repeat(b" " * 65_536, 4096)),
    "chunks": lambda: itertools.chain(
        [OK + CHUNKED + b"\r\n"], itertools.repeat(b"ff\r\n" + b"x" * 255 + b"\r\n", 10**6)
    ),
    "crumbs": lambda: itertools.chain([OK + CHUNKED + b"\r\n"], itertools.repeat(b"1\r\nx\r\n" * 10_000, 4096)),
    "frames of chunks": lambda: itertools.chain(
        [OK + CHUNKED + b"\r\n"], itertools.repeat(b"1;" + b"e" * 60_000 + b"\r\nx\r\n", 4096)
    ),
    "one frame": lambda: itertools.chain([OK + CHUNKED + b"\r\n1;"], itertools.repeat(b"e" * 60_000, 4096)),
    "trailers": lambda: itertools.chain(
        [OK + CHUNKED + b"\r\n0\r\n"], itertools.repeat(b"X: " + b"e" * 60_000 + b"\r\n", 4096)
    ),
    "heads": lambda: itertools.repeat(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 200, 40_000),
}


@both
@pytest.mark.parametrize("name", ENDLESS)
def test_nothing_is_taken_without_end(kind: str, name: str, stub: Stub) -> None:
    stub.script = [Say(200, raw=ENDLESS[name])]
    for method in ("adapters", "predict", "delete"):
        with pytest.raises(RemoteError):
            ask(kind, stub.url, METHODS[method], retry=ONCE, limits=SMALL)
    assert True not in stub.sent_whole  # some 250 MB each, were they taken


@both
@pytest.mark.parametrize(
    "answer",
    [
        drip(OK + JSON + b"\r\n", b" "),
        drip(OK + CHUNKED + b"\r\n", b"1\r\n \r\n"),
        drip(OK, b"X: 1\r\n"),
        drip(b"", b"HTTP/1.1 103 Early\r\n\r\n"),
        drip(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\n", b" "),
    ],
    ids=["body", "chunks", "head", "heads", "refusal"],
)
def test_a_byte_now_and_then_gains_no_time(kind: str, answer: Say, stub: Stub) -> None:
    stub.script = [answer]
    with pytest.raises(LostAnswerError, match="got no whole answer"):
        ask(kind, stub.url, lambda c: c.adapters(), retry=ONCE, timeout_s=0.3)
    assert True not in stub.sent_whole  # it would have gone on for 20 s


@both
def test_what_comes_steadily_has_its_time(kind: str, stub: Stub) -> None:
    """A second for every 64 KiB: 0.5 MB over a second are no drip, whatever the timeout."""
    body = b'{"status": "ready"' + b" " * 600_000 + b"}"
    parts = [body[start : start + 30_000] for start in range(0, len(body), 30_000)]
    slow = drip(OK + b"Content-Length: %d\r\n\r\n" % len(body), b"")

    def pieces() -> Iterator[bytes]:
        yield from paced(slow, parts)

    stub.script = [Say(200, raw=pieces)]
    assert ask(kind, stub.url, lambda c: c.status(), retry=ONCE, timeout_s=0.5).ready


def paced(slow: Say, parts: list[bytes]) -> Iterator[bytes]:
    """The head of `slow`, then a part at each of its pieces."""
    paced = iter(slow.raw() if slow.raw is not None else ())
    yield next(iter(paced))
    for _, part in zip(paced, parts, strict=False):
        yield part


def packed(data: bytes, coding: str, status: int = 200, kind: str = "application/json") -> Say:
    body = gzip.compress(data) if coding == "gzip" else zlib.compress(data)
    return Say(status, body, {"Content-Type": kind, "Content-Encoding": coding})


@both
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_packed_answers_are_unpacked_as_far_as_the_limit(kind: str, coding: str, stub: Stub) -> None:
    stub.script = [packed(READY, coding)]
    assert ask(kind, stub.url, lambda c: c.status()).ready
    problem = json.dumps({"type": "urn:mtlora:problem:bad-image", "detail": "torn"}).encode()
    stub.script = [packed(problem, coding, 422, "application/problem+json")]
    with pytest.raises(RefusedError, match="torn"):
        ask(kind, stub.url, lambda c: c.predict(b"photo"))
    stub.script = [packed(READY + b" " * 20_000_000, coding)]
    with pytest.raises(BadAnswerError, match="too long: at most 100000 bytes"):
        ask(kind, stub.url, lambda c: c.status(), limits=SMALL)


@both
@pytest.mark.parametrize(
    "body",
    [gzip.compress(READY)[:-9], gzip.compress(READY) + b"x", gzip.compress(READY)[:12] + b"\xff" * 9, b"\x1f\x8b"],
    ids=["short", "long", "corrupt", "begin"],
)
def test_what_does_not_unpack(kind: str, body: bytes, stub: Stub) -> None:
    stub.script = [Say(200, body, {"Content-Encoding": "gzip"})]
    with pytest.raises(BadAnswerError, match="packed"):
        ask(kind, stub.url, lambda c: c.status())


@both
def test_an_empty_answer_may_be_called_packed(kind: str, stub: Stub) -> None:
    stub.script = [Say(204, b"", {"Content-Encoding": "gzip"})]
    ask(kind, stub.url, lambda c: c.delete("cats"))


@both
@pytest.mark.parametrize("length", [True, False], ids=["announced", "chunked"])
def test_a_refusal_too_long_keeps_its_status(kind: str, length: bool, stub: Stub) -> None:
    text = b'{"detail": "' + b"x" * 100_000 + b'"}'
    frame = b"Content-Length: %d\r\n\r\n" % len(text) if length else b"\r\n"
    stub.script = [raw(b"HTTP/1.1 422 X\r\nContent-Type: application/problem+json\r\n" + frame + text)]
    with pytest.raises(RefusedError, match="the answer is too long: at most 50000 bytes") as caught:
        ask(kind, stub.url, lambda c: c.adapters(), limits=SMALL)
    assert caught.value.status == 422


@both
@pytest.mark.parametrize(
    "header",
    [
        "9" * 400, "9" * 5000, "\xb2", "-1", "1.5", "", "Mon, 99999999999999999999 Jan 2020 99:99:99 GMT",
        "Fri, 31 Dec 9999 23:59:59 -9999", "Sat, 01 Jan 0001 00:00:00 +2359", "a" * 60_000, "1, 2", "nan", "1e9",
    ],
)  # fmt: skip
def test_no_retry_after_breaks_a_client(kind: str, header: str, stub: Stub) -> None:
    stub.script = [Say(503, b"", {"Retry-After": header})]
    with pytest.raises(RefusedError, match="answered 503"):
        ask(kind, stub.url, lambda c: c.adapters(), retry=Retry(attempts=2, first_s=0.01))


@both
def test_cookies_are_not_kept(kind: str, stub: Stub) -> None:
    stub.script = [Say(503, b"", {"Set-Cookie": "a=b", "Retry-After": "0"}), Say(200, READY)]
    with pytest.raises(BadAnswerError):
        ask(kind, stub.url, lambda c: c.adapters(), retry=Retry(first_s=0.01))
    assert ["Cookie" in asked.headers for asked in stub.asked] == [False, False]


@both
def test_maps_are_bounded_by_the_photo(kind: str, stub: Stub) -> None:
    """A PNG of 2 x 2 pixels cannot have 30 MB of maps; of a photo whose size is not plain to see, anything might be."""
    photo = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\2\0\0\0\2"
    stub.script = [Say(200, b" " * 30_000_000)]
    with pytest.raises(BadAnswerError, match=r"too long: at most 8388864 bytes"):
        ask(kind, stub.url, lambda c: c.predict(photo))
    with pytest.raises(BadAnswerError, match=r"answered no \.npz"):
        ask(kind, stub.url, lambda c: c.predict(b"photo"))


@pytest.mark.parametrize(
    "address", ["http://[", "http://h:99999", "http://h\x00", "http://" + "a" * 70_000, "http://\udc80", "http://h:x"]
)
def test_an_address_that_is_none_is_said(address: str) -> None:
    with pytest.raises(RemoteError, match="a server's address looks like"):
        ask("Client", address, lambda c: c.adapters())


@both
def test_a_name_that_cannot_be_sent_is_said(kind: str, stub: Stub) -> None:
    for question in (lambda c: c.adapter("\udc80"), lambda c: c.predict(b"photo", adapter="\udc80")):
        with pytest.raises(RemoteError, match=r"udc80"):
            ask(kind, stub.url, question)
    assert stub.asked == []
