"""Names, revisions and references of adapter sets.

A name never becomes a path before it matched `NAME`. A reference is what a request resolved: it never changes.
"""

import re
from dataclasses import dataclass

from app.errors import AdapterNotFoundError, BadParameterError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
NAME_RULE = "[a-z0-9][a-z0-9._-]{0,63}"
_REVISION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One immutable revision of one adapter set, as resolved when a request came in."""

    name: str
    revision: int
    digest: str  # sha256 of the file, lower-case hex

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"


def check_name(name: str) -> str:
    """The name itself; `BadParameterError` if it is not one."""
    if not NAME.fullmatch(name):
        raise BadParameterError(f"adapter names match {NAME_RULE}, got {name[:80]!r}")
    return name


def parse_reference(text: str) -> tuple[str, int | None]:
    """`NAME` or `NAME@REVISION`. What cannot name anything is simply not found, as a missing name is."""
    name, at, revision = text.partition("@")
    if not NAME.fullmatch(name) or (at and not _REVISION.fullmatch(revision)):
        raise AdapterNotFoundError(f"no adapter set {text[:80]!r}; a reference is NAME or NAME@REVISION")
    return name, int(revision) if at else None


def known_shape(name: str) -> str:
    """A name in a path: what cannot be a name is not found, as a missing one is."""
    if not NAME.fullmatch(name):
        raise AdapterNotFoundError(f"no adapter set {name[:80]!r}")
    return name
