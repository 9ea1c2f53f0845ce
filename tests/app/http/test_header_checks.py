"""Heads that two parties could read in two ways."""

import pytest

from app.http.header_checks import MAX_HEADERS, fault_of

Head = list[tuple[bytes, bytes]]
HOST = (b"host", b"x")


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        ([HOST], "1.1", None),
        ([HOST], "2.0", 505),
        ([HOST, (b"accept", b"a"), (b"accept", b"b")], "1.1", None),
        ([HOST, (b"content-length", b"1")], "1.0", None),
        ([HOST, (b"transfer-encoding", b"chunked")], "1.1", None),
        ([HOST, (b"transfer-encoding", b"chunked")], "1.0", 400),
        ([HOST, (b"transfer-encoding", b"chunked"), (b"content-length", b"1")], "1.1", 400),
        ([HOST, HOST], "1.1", 400),
        ([HOST, (b"content-type", b"image/png"), (b"content-type", b"application/json")], "1.1", 400),
        ([HOST, (b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], "1.1", 400),
        ([HOST, (b"x-api-key", b"a"), (b"x-api-key", b"b")], "1.1", 400),
        ([HOST, (b"x-request-id", b"a"), (b"x-request-id", b"a")], "1.1", 400),
        ([HOST, (b"range", b"bytes=0-1"), (b"range", b"bytes=0-1")], "1.1", 400),
        ([HOST, (b"if-range", b"a"), (b"if-range", b"b")], "1.1", 400),
        ([HOST, (b"authorization", b"Bearer a"), (b"x-api-key", b"b")], "1.1", 400),
        ([HOST, (b"authorization", b"bearer  a"), (b"x-api-key", b"b")], "1.1", 400),
        ([HOST, (b"authorization", b"Bearer a"), (b"x-api-key", b"a")], "1.1", None),
        ([HOST, (b"authorization", b"Bearer "), (b"x-api-key", b"a")], "1.1", None),
        ([HOST, (b"authorization", b"Basic dTpw"), (b"x-api-key", b"a")], "1.1", None),
        ([(b"host", b"")], "1.1", None),
        ([(b"host", b"my_host.example:8000")], "1.1", None),
        ([(b"host", b"[::1]:8000")], "1.1", None),
        ([(b"host", b"a/b?c#d")], "1.1", 400),
        ([(b"host", b"a b")], "1.1", 400),
        ([(b"host", b"user@a")], "1.1", 400),
        ([(b"host", b"a:b")], "1.1", 400),
        ([(b"host", b"a\xff")], "1.1", 400),
        ([(b"x-%d" % i, b"") for i in range(MAX_HEADERS)], "1.1", None),
        ([(b"x-%d" % i, b"") for i in range(MAX_HEADERS + 1)], "1.1", 431),
    ],
)
def test_faults(headers: Head, version: str, status: int | None) -> None:
    fault = fault_of(headers, version)
    assert (fault[0] if fault else None) == status
