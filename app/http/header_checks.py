"""Checks of request heads, made first: too large, or readable in two ways by two parties."""

import re
from collections import Counter
from collections.abc import Sequence

MAX_HEADERS = 100
ONCE = frozenset(
    {
        b"host",
        b"content-length",
        b"content-type",
        b"transfer-encoding",
        b"content-encoding",
        b"authorization",
        b"x-api-key",
        b"x-request-id",
        b"range",
        b"if-range",
        b"expect",
        b"inference-header-content-length",
    }
)

_HOST = re.compile(rb"(?:[\w.~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::\d*)?")


def fault_of(headers: Sequence[tuple[bytes, bytes]], http_version: str) -> tuple[int, str] | None:
    """Status and reason to refuse a request by its head; None if there is nothing against it.

    headers: lower-case names and values, as ASGI has them
    """
    if http_version not in {"1.0", "1.1"}:
        return 505, f"this is a server of HTTP/1.1, the request says {http_version}"
    if len(headers) > MAX_HEADERS:
        return 431, f"a request may have {MAX_HEADERS} headers, this one has {len(headers)}"
    counts = Counter(name for name, _ in headers)
    twice = sorted(name.decode("latin-1") for name in ONCE if counts[name] > 1)
    if twice:
        return 400, f"a request has one {', '.join(twice)} at most, this one has more"
    if counts[b"transfer-encoding"] and counts[b"content-length"]:
        return 400, "a request has a Content-Length or a Transfer-Encoding, this one has both"
    if counts[b"transfer-encoding"] and http_version == "1.0":
        return 400, "HTTP/1.0 knows no Transfer-Encoding"
    return _fault_of_values(dict(headers))


def _fault_of_values(head: dict[bytes, bytes]) -> tuple[int, str] | None:
    host = head.get(b"host", b"").strip()
    if not _HOST.fullmatch(host):
        return 400, f"Host is a name and a port, got {host[:100].decode('latin-1')!r}"
    scheme, _, bearer = head.get(b"authorization", b"").partition(b" ")
    key = head.get(b"x-api-key", b"").strip()
    if key and scheme.lower() == b"bearer" and bearer.strip() not in (b"", key):
        return 400, "a request has one API key, this one has two: in Authorization and in X-API-Key"
    return None
