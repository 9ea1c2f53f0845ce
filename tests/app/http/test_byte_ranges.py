"""Parts of files: one range is given, what is no range is ignored, what is not there is a problem document."""

import httpx
import pytest

FILE = "/adapters/people/file"


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-3", slice(0, 4)),
        ("BYTES=5-5", slice(5, 6)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=-99999999999999", slice(None)),
        ("bytes=8-99999999999999", slice(8, None)),
    ],
)
def test_one_range(client: httpx.Client, asked: str, part: slice) -> None:
    whole = client.get(FILE).content
    answer = client.get(FILE, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == whole[part]
    start, _, _ = part.indices(len(whole))
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(whole)}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-1",
        "bytes=a-b",
        "bytes=-",
        "bytes=",
        "bytes",
        "bytes=1",
        "bytes=--5",
        "bytes=+1-2",
        "bytes=\u0663-4",
        "bytes=" + "9" * 5000 + "-",
        "pixels=0-1",
        "bytes=0-1,3-4",
        "bytes=" + ",".join(["0-"] * 1000),
        "bytes=" + ",".join(f"{2 * i}-{2 * i}" for i in range(1000)),
    ],
)
@pytest.mark.parametrize("path", [FILE, "/static/js/main.js", "/"])
def test_no_range_and_many_are_ignored(client: httpx.Client, path: str, asked: str) -> None:
    answer = client.get(path, headers=[(b"Range", asked.encode())])
    assert answer.status_code == 200
    assert "content-range" not in answer.headers
    assert answer.content == client.get(path).content


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=99999999-999999999", "bytes=-0"])
@pytest.mark.parametrize("path", [FILE, "/static/js/main.js", "/", "/docs", "/favicon.ico"])
def test_beyond_the_end_is_a_problem(client: httpx.Client, path: str, asked: str) -> None:
    size = len(client.get(path).content)
    answer = client.get(path, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{size}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:mtlora:problem:range-not-satisfiable"
    assert str(size) in answer.json()["detail"]


def test_a_range_of_something_else_is_not_given(client: httpx.Client) -> None:
    """If-Range: only of this version; of another the whole file, even where there is no such range."""
    etag = client.get(FILE).headers["etag"]
    assert client.get(FILE, headers={"Range": "bytes=0-3", "If-Range": etag}).status_code == 206
    assert client.get(FILE, headers={"Range": "bytes=0-3", "If-Range": '"other"'}).status_code == 200
    assert client.get(FILE, headers={"Range": "bytes=99999999-", "If-Range": '"other"'}).status_code == 200


def test_what_the_client_has_is_not_sent_again(client: httpx.Client) -> None:
    etag = client.get("/static/js/main.js").headers["etag"]
    assert client.get("/static/js/main.js", headers={"If-None-Match": etag}).status_code == 304
