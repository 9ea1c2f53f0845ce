"""Multipart bodies cut anywhere give the same parts; broken ones are refused, never half-read."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import BadBodyError, RequestError
from app.http.multipart import PartBegin, PartData, multipart_events
from testing.examples import examples

TYPE = "multipart/form-data; boundary=edge"


def body(*parts: tuple[str, bytes]) -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="%s"; filename="../x"\r\nContent-Type: any/thing\r\n\r\n'
    return b"".join(head % name.encode() + data + b"\r\n" for name, data in parts) + b"--edge--\r\n"


def parse(content: bytes, chunk: int = 7, content_type: str = TYPE) -> list[tuple[str, bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), chunk):
            yield content[start : start + chunk]

    async def collect() -> list[tuple[str, bytes]]:
        parts: list[tuple[str, bytes]] = []
        async for event in multipart_events(chunks(), content_type):
            match event:
                case PartBegin(name=name):
                    parts.append((name, b""))
                case PartData(data=data):
                    parts[-1] = (parts[-1][0], parts[-1][1] + data)
        return parts

    return asyncio.run(collect())


@settings(max_examples=examples(40))
@given(st.lists(st.tuples(st.sampled_from(["image", "file"]), st.binary(max_size=80)), min_size=1), st.integers(1, 50))
def test_parts_come_back_however_the_body_is_cut(parts: list[tuple[str, bytes]], chunk: int) -> None:
    parts = [(name, data.replace(b"--edge", b"")) for name, data in parts]
    assert parse(body(*parts), chunk) == parts


@settings(max_examples=examples(40))
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(content: bytes) -> None:
    try:
        parse(content)
    except RequestError:
        return


@pytest.mark.parametrize(
    "content",
    [
        b"",
        body(("image", b"abc"))[:-10],
        body(("image", b"abc")).replace(b"form-data", b"attachment"),
        body(("image", b"abc")).replace(b'name="image"; ', b""),
        body(("image", b"abc")).replace(b"Content-Disposition", b"X-Other"),
        b"--edge\r\n" + b"A: b\r\n" * 2000 + b"\r\n\r\n--edge--\r\n",
        b"--edge\r\n" + b"A" * 100_000,
        body(*[("image", b"")] * 1200),
        body(("image", b"abc")).replace(b"\r\nContent-Type", b'\r\nContent-Disposition: form-data; name="file"\r\nC'),
        body(("image", b"abc")).replace(b'name="image"', b'name="image"; name="file"'),
        body(("image", b"abc")).replace(b'name="image"', b"name=\"image\"; name*=utf-8''file"),
        body(("image", b"abc")).replace(b'name="image"', b'name="image"; NAME *0=file'),
        body(("image", b"abc")).replace(b'name="image"', b'name="image; filename="a"; name="file"'),
        body(("image", b"abc")).replace(b'name="image"', b'name="image"; x="\\"; name="file"'),
        body(("image", b"abc")).replace(b'name="image"', b'name="image"file'),
        body(("image", b"abc")).replace(b'name="image"', b'name=""'),
        body(("image", b"abc")).replace(b"Content-Type: any/thing", b"X: " + b"a" * 5000),
        body(("image", b"a\r\n--edgeX")),
        body(("image", b"a\r\n--edge  \r\n")),
        body(("image", b"a\r\n--edge\rX")),
        b"--edge\n" + body(("image", b"abc"))[8:],
        b"preamble\r\n" + body(("image", b"abc")),
    ],
)
def test_broken_bodies(content: bytes) -> None:
    with pytest.raises(BadBodyError):
        parse(content, chunk=1000)


@pytest.mark.parametrize(
    "file_name",
    [
        b'"a; name=b.jpg"',
        b'"a; name=\\"b\\".jpg"',
        b'"a;name*=x;b"',
        b'";;;"',
        b'"C:\\\\photos; name=\\\\"',
        b"plain.jpg",
        b"with spaces.jpg",
        b"\"a\"; filename*=utf-8''b%20c",
    ],
)
def test_what_stands_in_a_file_name_is_no_parameter(file_name: bytes) -> None:
    content = body(("image", b"abc")).replace(b'"../x"', file_name)
    assert parse(content) == [("image", b"abc")]


def test_names_are_read_as_they_are_quoted() -> None:
    content = body(("image", b"abc"))
    for written, read in (
        (b'"a\\"b"', 'a"b'),
        (b'"a\\\\"', "a\\"),
        (b"image", "image"),
        (b'"a;b"', "a;b"),
        (b'"\xc3\xa9"', "é"),
    ):
        assert parse(content.replace(b'"image"', written)) == [(read, b"abc")]


def test_a_boundary_in_quotes_is_no_second_one() -> None:
    content = body(("image", b"abc"))
    assert parse(content, content_type=f'{TYPE}; charset="; boundary=other"') == [("image", b"abc")]
    assert parse(content, content_type='multipart/form-data; boundary="edge"') == [("image", b"abc")]


@settings(max_examples=examples(60))
@given(st.binary(max_size=6), st.integers(1, 40))
def test_lines_that_only_begin_like_a_boundary_are_refused_however_the_body_is_cut(rest: bytes, chunk: int) -> None:
    content = body(("image", b"abc\r\n--edge" + rest + b"def"))
    if (rest + b"def").startswith((b"\r\n", b"--")):
        return
    with pytest.raises(BadBodyError, match="a line begins with the boundary"):
        parse(content, chunk)


def test_floods_of_near_boundaries_take_no_time() -> None:
    """They would keep the parser busy for seconds per megabyte, and with it everybody else."""
    start = time.perf_counter()
    for flood in (b"\r\n--edgeX" * 300_000, b"\r\n--edge" + b" " * 3_000_000):
        with pytest.raises(BadBodyError):
            parse(body(("image", flood)), chunk=65536)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"{TYPE}{'x' * 80}",
        'multipart/form-data; boundary="edge "',
        'multipart/form-data; boundary="ed\tge"',
        "multipart/form-data; boundary=é",
        f"{TYPE}; boundary=other",
        f"{TYPE}; Boundary=edge",
        f"{TYPE}; boundary*=utf-8''other",
        f"{TYPE}; boundary*0=ed; boundary*1=ge",
    ],
)
def test_bad_boundaries(content_type: str) -> None:
    with pytest.raises(BadBodyError, match="boundary"):
        parse(body(("image", b"abc")), content_type=content_type)
