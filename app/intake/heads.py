"""Heads of requests that two parties could read in two ways, or that are too large. Checked before anything else."""

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
        b"inference-header-content-length",
    }
)


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
    return None
