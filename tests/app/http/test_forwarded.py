"""Whom to believe about a request's origin, and what."""

from typing import Any

import pytest

from app.http.forwarded import PEER, Forwarding, check_root_path, parse_networks, prefix_of

PROXIES = "127.0.0.1,10.0.0.0/8,::1"


def applied(forwarding: Forwarding, peer: str, *headers: tuple[str, str]) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope: dict[str, Any] = {"type": "http", "client": (peer, 4711), "headers": raw}
    forwarding.apply(scope)
    return scope


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the first is the client's own word
        ("127.0.0.1", "203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "203.0.113.9:5566", "203.0.113.9"),
        ("127.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("127.0.0.1", "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", '203.0.113.9, <script>"', "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9\t", "203.0.113.9"),
        ("203.0.113.77", "198.51.100.1", "203.0.113.77"),  # no proxy of ours: not a word counts
    ],
)
def test_the_nearest_address_that_is_no_proxy(peer: str, chain: str, client: str) -> None:
    scope = applied(Forwarding(PROXIES), peer, ("X-Forwarded-For", chain))
    assert scope["client"][0] == client
    assert scope.get(PEER) == (peer if client != peer else None)


def test_headers_that_come_twice_are_one_chain() -> None:
    scope = applied(Forwarding(PROXIES), "127.0.0.1", ("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2"))
    assert scope["client"][0] == "2.2.2.2"


def test_everybody_is_trusted_or_nobody() -> None:
    said = ("X-Forwarded-For", "1.1.1.1, 2.2.2.2")
    assert applied(Forwarding("*"), "203.0.113.9", said)["client"][0] == "1.1.1.1"
    assert applied(Forwarding(""), "127.0.0.1", said)["client"][0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("said", "prefix"),
    [("/vision", "/vision"), ("/vision/", "/vision"), ("/a/b", "/a/b"), ("//evil.example", ""), ("https://evil", ""),
     ("vision", ""), ("/a/../b", ""), ("/a b", ""), ("/" + "a" * 300, ""), ('/"><script>', ""), ("/", "")],
)  # fmt: skip
def test_a_prefix_is_a_path_and_nothing_else(said: str, prefix: str) -> None:
    assert prefix_of(applied(Forwarding(PROXIES), "127.0.0.1", ("X-Forwarded-Prefix", said))) == prefix
    assert prefix_of(applied(Forwarding(PROXIES), "203.0.113.9", ("X-Forwarded-Prefix", said))) == ""


def test_a_set_root_path_wins_and_two_prefixes_are_none() -> None:
    own = Forwarding(PROXIES, "/vision")
    assert prefix_of(applied(own, "127.0.0.1", ("X-Forwarded-Prefix", "/other"))) == "/vision"
    assert prefix_of(applied(own, "203.0.113.9")) == "/vision"
    two = (("X-Forwarded-Prefix", "/a"), ("X-Forwarded-Prefix", "/b"))
    assert prefix_of(applied(Forwarding(PROXIES), "127.0.0.1", *two)) == ""


@pytest.mark.parametrize(
    ("path", "own"),
    [
        (b"/vision/predict", b"/predict"),
        (b"/predict", b"/predict"),
        (b"/visionary", b"/visionary"),
        (b"/vision/", b"/"),
        (b"/vision", b"/"),
    ],
)
def test_the_root_path_is_taken_off_if_the_proxy_did_not(path: bytes, own: bytes) -> None:
    assert Forwarding("", "/vision").own_path(path) == own


def test_root_paths() -> None:
    assert [check_root_path(path) for path in ("", "/", "/vision", "/a/b/")] == ["", "", "/vision", "/a/b"]
    for wrong in ("vision", "//a", "/a//b", "/a/../b", "/a?b", "http://a/b", "/a b"):
        with pytest.raises(ValueError, match="such as /vision"):
            check_root_path(wrong)
    with pytest.raises(ValueError, match="of the server's own"):
        check_root_path("/adapters")


def test_networks() -> None:
    anybody, networks = parse_networks("10.0.0.1/8, ::1")
    assert not anybody and [str(network) for network in networks] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(ValueError, match="addresses or networks"):
        parse_networks("nginx")
