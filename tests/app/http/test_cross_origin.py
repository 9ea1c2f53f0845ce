"""Origins as they are written, and what they are told."""

import pytest
from starlette.datastructures import Headers

from app.http.cross_origin import CrossOrigin, origin_in, parse_origins, preflight_headers


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        ("http://localhost:3000", ("http://localhost:3000",)),
        (" https://A.example , https://a.example:443,http://a.example:80", ("https://a.example", "http://a.example")),
        ("https://a.example:8443", ("https://a.example:8443",)),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
        ("capacitor://localhost", ("capacitor://localhost",)),
    ],
)
def test_origins_are_those_that_browsers_send(text: str, origins: tuple[str, ...]) -> None:
    assert parse_origins(text) == origins


@pytest.mark.parametrize(
    "text",
    ["https://a.example/", "https://a.example/app", "a.example", "https://*.example", "https://a:x", "https://",
     "https://user@a.example", "https://a.example?x", "*,https://a.example", "null", "https://a b", "http://a:99999"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"origin"):
        parse_origins(text)


def test_off_says_nothing() -> None:
    off = CrossOrigin()
    assert off.headers("https://a.example") == {}
    asked = Headers({"Origin": "https://a.example", "Access-Control-Request-Method": "POST"})
    assert not off.is_preflight("OPTIONS", asked)


def test_a_list_tells_only_its_own_and_always_varies() -> None:
    policy = CrossOrigin(["https://a.example", "https://b.example"])
    assert policy.headers("https://a.example")["Access-Control-Allow-Origin"] == "https://a.example"
    for other in ("https://c.example", "https://a.example.evil", "null", None):
        assert policy.headers(other) == {"Vary": "Origin"}
    assert policy.headers(None, unread=True) == {"Vary": "Origin"}
    assert CrossOrigin(["https://a.example"]).headers(None, unread=True)["Access-Control-Allow-Origin"] == (
        "https://a.example"
    )


def test_all_are_told_a_star_and_credentials_are_never_allowed() -> None:
    told = CrossOrigin(["*"]).headers("https://anybody.example")
    assert told["Access-Control-Allow-Origin"] == "*"
    assert not any("credentials" in name.lower() for name in told)


def test_a_preflight_gives_back_what_it_asks_for_if_those_are_names() -> None:
    asked = {"Access-Control-Request-Headers": "authorization,content-type"}
    assert preflight_headers(Headers(asked))["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert "Access-Control-Allow-Headers" not in preflight_headers(Headers({"Access-Control-Request-Headers": "a b<"}))
    assert "Access-Control-Allow-Headers" not in preflight_headers(Headers({}))


def test_an_origin_is_found_in_a_head_that_is_none() -> None:
    assert origin_in(b"GET / HTTP/1.1\r\nORIGIN:  https://a.example \r\nX: " + b"y" * 100) == "https://a.example"
    assert origin_in(b"GET / HTTP/1.1\r\nX-Origin: https://a.example\r\n") is None
    assert origin_in(b"GET / HTTP/1.1\r\nOrigin: https://a.exam") == "https://a.exam"
    assert origin_in(b"\x16\x03\x01") is None
