"""Where photos may be fetched from."""

import pytest

from app.core.errors import BadParameterError
from app.http.fetching import Site, may_connect, parse_site, path_on


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("http://label-studio:8080", Site("http", "label-studio", 8080)),
        ("https://labels.example.com/", Site("https", "labels.example.com", 443)),
        ("http://[::1]:8080", Site("http", "::1", 8080)),
    ],
)
def test_a_site_and_its_address(url: str, site: Site) -> None:
    assert parse_site(url) == site
    assert parse_site(str(site)) == site


@pytest.mark.parametrize(
    "url", ["labels.example.com", "ftp://a", "http://a/b", "http://a?b", "http://u@a", "http://a:x"]
)
def test_what_is_no_site(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_site(url)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", True),
        ("10.0.0.7", True),
        ("172.18.0.3", True),
        ("93.184.216.34", True),
        ("::1", True),
        ("fd00::5", True),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("240.0.0.1", False),
    ],
)
def test_addresses(address: str, allowed: bool) -> None:
    assert may_connect(address) is allowed


def test_the_site_s_own_address_may_stand_before_a_path() -> None:
    site = parse_site("http://label-studio:8080")
    assert path_on(site, "http://label-studio:8080/data/upload/1/a.jpg") == "/data/upload/1/a.jpg"
    assert path_on(site, "/data/local-files/?d=a/b.jpg") == "/data/local-files/?d=a/b.jpg"


@pytest.mark.parametrize(
    "reference",
    [
        "http://label-studio/data/a",
        "http://label-studio:8080@evil/data/a",
        "http:/data/a",
        "data/a",
        "/data\\..\\a",
        "/data/a\n",
    ],
)
def test_no_other_reference(reference: str) -> None:
    with pytest.raises(BadParameterError, match="photos are fetched from"):
        path_on(parse_site("http://label-studio:8080"), reference)
