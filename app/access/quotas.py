"""Storage quotas: how much a name space holds, and whether one more file may come."""

from dataclasses import dataclass

from app.access.keys import Caller
from app.core.errors import QuotaError


@dataclass(frozen=True, slots=True)
class Holdings:
    """Uploaded sets of one name space."""

    sets: frozenset[str] = frozenset()  # full names
    sizes: tuple[int, ...] = ()  # bytes of each revision's file

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.sizes)


def check_sets(caller: Caller, held: Holdings, name: str) -> None:
    """`QuotaError` if a set of this full name would be one too many."""
    limit = caller.quota.max_sets
    if limit is not None and name not in held.sets and len(held.sets) >= limit:
        raise _used_up(caller, "max_sets", limit, len(held.sets), "adapter sets; delete one first")


def check_bytes(caller: Caller, held: Holdings, size: int) -> None:
    """`QuotaError` if a new file of so many bytes would be too much."""
    limit = caller.quota.max_bytes
    if limit is not None and held.bytes + size > limit:
        raise _used_up(caller, "max_bytes", limit, held.bytes, f"bytes of adapter files, and {size} more were sent")


def check_arriving(caller: Caller, held: Holdings, size: int, *, others: int = 0) -> None:
    """`QuotaError` if a file of at least `size` bytes is too much beside `others` on their way, whatever it holds.

    The bytes of a revision that is there already may be sent again at any time: they take no room.
    """
    if not any(known >= size for known in held.sizes):
        check_bytes(caller, held, size + others)


def _used_up(caller: Caller, name: str, limit: int, usage: int, what: str) -> QuotaError:
    whose = f"name space {caller.namespace!r}" if caller.namespace else f"API key {caller.label!r}"
    return QuotaError(f"{whose} may hold {limit} and holds {usage} {what}", name=name, limit=limit, usage=usage)
