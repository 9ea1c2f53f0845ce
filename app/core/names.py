"""Names, revisions and references of adapter sets.

Two names: the plain one, which clients write and see, and the full one, which everything behind the handlers uses:
`NAME` in the global name space, `NAMESPACE/NAME` in another. `Catalog.locate` makes the one into the other, so no
client can write a full name. A name never becomes a path before it matched. A reference is what a request resolved.
"""

import re
from dataclasses import dataclass

from app.core.errors import AdapterNotFoundError, BadParameterError

NAME_RULE = "[a-z0-9][a-z0-9._-]{0,63}"
NAMESPACE_RULE = "[a-z0-9][a-z0-9_-]{0,31}"
NAME = re.compile(NAME_RULE)
_FOLDER = re.compile(rf"(?:({NAMESPACE_RULE})\+)?({NAME_RULE})")
_REVISION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One immutable revision of one adapter set, as resolved when a request came in."""

    name: str  # full
    revision: int
    digest: str  # sha256 of the file, lower-case hex

    def __str__(self) -> str:
        """As clients write it."""
        return f"{plain_name(self.name)}@{self.revision}"


def full_name(namespace: str, name: str) -> str:
    """The full name of a set; of the global name space (empty) the plain one."""
    return f"{namespace}/{name}" if namespace else name


def plain_name(full: str) -> str:
    """What clients call the set of this full name."""
    return full.rpartition("/")[2]


def namespace_of(full: str) -> str:
    """The name space of a full name; empty: the global one."""
    return full.rpartition("/")[0]


def folder_of(full: str) -> str:
    """One harmless path component for a full name. No name holds a plus sign, so two never share one."""
    return full.replace("/", "+")


def name_of(folder: str) -> str | None:
    """The full name that a folder stands for; None if it stands for none."""
    match = _FOLDER.fullmatch(folder)
    return full_name(match[1] or "", match[2]) if match else None


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
