"""The nearest known name for one that is not known: "did you mean …"."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from heapq import nlargest

LONGEST = 64  # of a name that is compared: no longer one is like any of ours
SHORTLIST = 8  # names that are compared closely: a request must not take long only because it is wrong


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like this one, whatever its case; empty if none is like it."""
    lowered = name[:LONGEST].lower()
    alike = {one.lower(): one for one in known}
    shortlist = nlargest(SHORTLIST, alike, key=lambda one: _shared_ends(lowered, one))
    found = get_close_matches(lowered, shortlist, n=1)
    return str(alike[found[0]]) if found else ""  # a name may be a member of an enumeration


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` to put behind a sentence; empty if no known name is like this one."""
    found = nearest(name, known)
    return f"; did you mean {found!r}?" if found else ""


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """The sentence about a name that is not known."""
    meant = did_you_mean(name, known)
    return f"unknown {what} {name[:80]!r}{meant or ';'} known: {', '.join(known) or 'none'}"


def _shared_ends(one: str, other: str) -> int:
    """How many characters two names share at their beginnings and ends: slips of the pen leave most of both."""
    return _shared_start(one, other) + _shared_start(one[::-1], other[::-1])


def _shared_start(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
