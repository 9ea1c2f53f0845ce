"""What the server acknowledged about one name, and hence what it may answer. Pure bookkeeping with times.

Every name has one owner, which changes it step by step; everyone else only looks. A change counts from the moment it
is sent (it may be seen) and binds from the moment it is acknowledged (it must be seen).
"""

import math
from dataclasses import dataclass, field, replace

KEPT_VERSIONS = 64


@dataclass(frozen=True, slots=True)
class SetNow:
    """One name at one instant. `current` is None exactly if there is no such set."""

    revisions: tuple[tuple[int, str], ...] = ()  # number, digest
    current: int | None = None
    next_revision: int = 1
    pinned: bool = False

    def number_of(self, digest: str) -> int | None:
        """The newest revision with these bytes."""
        return next((number for number, d in reversed(self.revisions) if d == digest), None)

    def digest_of(self, number: int | None) -> str | None:
        """The bytes of a revision."""
        return dict(self.revisions).get(-1 if number is None else number)

    def uploaded(self, digest: str, *, activate: bool) -> "SetNow":
        """With these bytes as a revision; known bytes give their revision again."""
        number = self.number_of(digest)
        if number is None:
            number = self.next_revision
            after = replace(self, revisions=(*self.revisions, (number, digest)), next_revision=number + 1)
        else:
            after = self
        return replace(after, current=number) if activate or self.current is None else after

    def activated(self, number: int) -> "SetNow":
        """With another current revision."""
        return replace(self, current=number)

    def without(self, number: int) -> "SetNow":
        """Without one revision."""
        return replace(self, revisions=tuple(r for r in self.revisions if r[0] != number))

    def deleted(self) -> "SetNow":
        """Without any; the numbering goes on."""
        return SetNow(next_revision=self.next_revision)

    def seen_as(self, other: "SetNow") -> bool:
        """Whether clients can tell the two apart; the next number only shows later."""
        return (self.revisions, self.current, self.pinned) == (other.revisions, other.current, other.pinned)


@dataclass(slots=True)
class Version:
    """A state and when it began to be possible and to be certain, in seconds of one clock."""

    now: SetNow
    begun: float
    acked: float = math.inf


@dataclass(slots=True)
class Ledger:
    """The versions of one name, oldest first. All but the last few are settled."""

    name: str
    versions: list[Version] = field(default_factory=lambda: [Version(SetNow(), -math.inf, -math.inf)])

    @property
    def certain(self) -> SetNow:
        """What was acknowledged last."""
        return next(v.now for v in reversed(self.versions) if v.acked < math.inf)

    def begin(self, after: SetNow, time: float) -> Version:
        """A change is about to be sent."""
        version = Version(after, time)
        self.versions.append(version)
        del self.versions[:-KEPT_VERSIONS]
        return version

    def acknowledge(self, version: Version, time: float) -> None:
        """The server said it is done."""
        version.acked = time

    def refused(self, version: Version) -> None:
        """The server said that nothing has changed."""
        self.versions.remove(version)

    def settle(self, actual: SetNow, time: float) -> bool:
        """After a crash: one of the states that are possible is there now. False if it is none of them."""
        possible = [self.certain, *(v.now for v in self.versions if v.acked == math.inf)]
        found = next((state for state in possible if state.seen_as(actual)), None)
        if found is None:
            return False
        for version in self.versions:
            version.acked = min(version.acked, time)
        self.versions.append(Version(found, time, time))
        return True

    def possible(self, sent: float, answered: float) -> list[SetNow]:
        """The states that an answer to a question sent and answered at these times may show."""
        bound = max(i for i, v in enumerate(self.versions) if v.acked <= sent or i == 0)
        return [v.now for i, v in enumerate(self.versions) if i >= bound and v.begun <= answered]
