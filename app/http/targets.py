"""Request targets: which path is meant, in whatever form it was sent. A host that a client names is never used."""

import re
from collections.abc import Callable

EVERYTHING = b"*"
DOCS = b"/docs/"  # a page that finds its files beside itself: with the slash it would not
_URL = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)


def target_fault(method: str, target: bytes) -> tuple[int, str] | None:
    """Status and reason to refuse a request by its target; None if it is a path, a URL, or the `*` of OPTIONS.

    target: as it was sent, without its query
    """
    if target.startswith(b"/") or _URL.match(target) or (target == EVERYTHING and method == "OPTIONS"):
        return None
    shown = target[:100].decode("latin-1")
    if method == "CONNECT":
        return 400, f"this server opens no tunnels, got CONNECT {shown!r}"
    return 400, f"the target of a request is a path or an http URL, got {method[:20]} {shown!r}"


def path_of(target: bytes, own: Callable[[bytes], bytes] = lambda path: path) -> bytes:
    """The path that is meant: of a URL its path alone (RFC 9112, 3.2.2), and one slash at the end does not count.

    With it nobody needs to be redirected, which would take a URL of our own: all that is known of one is what the
    client says.

    own: takes off what proxies put before the server's own paths
    """
    found = _URL.match(target)
    path = own((target[found.end() :] or b"/") if found else target)
    slash = path.endswith(b"/") and not path.endswith(b"//") and path not in (b"/", DOCS)
    return path[:-1] if slash else path
