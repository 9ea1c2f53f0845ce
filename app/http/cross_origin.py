"""Pages of other origins (CORS): which may read the answers, and what of them.

Browsers let a page read the answers of its own origin only, unless these headers say otherwise. Keys are sent as
headers by the page itself, never by the browser on its own, so credentials (cookies) are never allowed: without a key
a page of an allowed origin can do no more than anybody can.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers

ANY = "*"
VARY = "Origin"
PREFLIGHT_VARY = "Access-Control-Request-Method, Access-Control-Request-Headers"
PREFLIGHT_AGE_S = 600
METHODS = "DELETE, GET, HEAD, POST, PUT"
EXPOSED = ", ".join(
    (
        "Accept-Ranges", "Allow", "Content-Disposition", "Content-Length", "Content-Range", "ETag",
        "Inference-Header-Content-Length", "Location", "Retry-After", "Server-Timing", "WWW-Authenticate",
        "X-Adapter-Cold", "X-Adapter-Revision", "X-Compute-Share", "X-Request-ID", "X-Tiles",
    )
)  # fmt: skip
"""What scripts may read beside what they always may (Content-Type and a few more)."""

_FORM = "https://app.example.com or http://localhost:3000, without a path or a slash at the end"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_ORIGIN_LINE = re.compile(rb"^origin:[ \t]*([!-~]{1,300})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class CrossOrigin:
    """Origins whose pages may use the server. Without any, nothing is said about it, and browsers refuse."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origins)

    @property
    def on(self) -> bool:
        """Whether any page of another origin may use the server."""
        return bool(self._origins)

    def allowed(self, origin: str) -> bool:
        """Whether pages of this origin may."""
        return ANY in self._origins or origin in self._origins

    def headers(self, origin: str | None, *, unread: bool = False) -> dict[str, str]:
        """What an answer says; `Vary` is to be added to what the answer varies by anyway.

        origin: as the request has it; None: it has none
        unread: whether the request may have one that could not be read; where one origin alone is allowed, it is taken
        """
        if not self._origins:
            return {}
        if ANY in self._origins:
            return _told(ANY)
        if origin is None and unread and len(self._origins) == 1:
            (origin,) = self._origins
        return {**(_told(origin) if origin in self._origins else {}), "Vary": VARY}

    def is_preflight(self, method: str, headers: Headers) -> bool:
        """Whether a browser asks if a page may send a request, which it will send only then."""
        return self.on and method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def preflight_headers(headers: Headers) -> dict[str, str]:
    """The answer to a preflight beside what every answer says: whatever the page wants to send, it may.

    What the server knows no use for, it refuses in words when it comes.
    """
    wanted = headers.get("access-control-request-headers", "").strip()
    return {
        "Access-Control-Allow-Methods": METHODS,
        **({"Access-Control-Allow-Headers": wanted} if _NAMES.fullmatch(wanted) else {}),
        "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
        "Vary": PREFLIGHT_VARY,
    }


def parse_origins(text: str) -> tuple[str, ...]:
    """Origins of a comma list, as browsers write them; `ValueError` says which one is none, and why."""
    origins = tuple(dict.fromkeys(_origin(entry.strip()) for entry in text.split(",") if entry.strip()))
    if ANY in origins and len(origins) > 1:
        raise ValueError(f"origins are {ANY} for all, or a list of them, got both: {text[:200]!r}")
    return origins


def origin_in(head: bytes) -> str | None:
    """The origin of a request whose head could not be parsed, if a line of it says one."""
    found = _ORIGIN_LINE.search(head)
    return found[1].decode("ascii") if found else None


def _told(origin: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": EXPOSED,
        "Timing-Allow-Origin": origin,
    }


def _origin(entry: str) -> str:
    if entry == ANY:
        return ANY
    if entry == "null":
        raise ValueError("the origin null is that of any sandboxed page of anybody, so it cannot be allowed alone")
    scheme, _, rest = entry.lower().partition("://")
    try:
        port = urlsplit(f"//{rest}").port
    except ValueError:
        port = -1
    host = rest.rpartition(":")[0] if port is not None else rest
    if not _SCHEME.fullmatch(scheme) or not _HOST.fullmatch(host) or port == -1:
        raise ValueError(f"an origin is written {_FORM}, or {ANY} for all; patterns are not known; got {entry[:80]!r}")
    shown = port is not None and port != _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}:{port}" if shown else f"{scheme}://{host}"
