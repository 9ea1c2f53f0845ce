"""The state of an adapter set: a small JSON document that lists its revisions. A pure value: no I/O here."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_MARKS = 16
"""Of changes: a writer whose answer was lost looks for its own among them."""


class Revision(BaseModel):
    """One immutable file of a set."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    revision: int = Field(ge=1)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the file")
    bytes: int = Field(ge=0)
    created: str = Field(description="UTC, ISO 8601")


class SetState(BaseModel):
    """Everything the store remembers of one name. Numbers of deleted revisions are never given again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = Field(default=1, le=1)
    name: str
    next_revision: int = Field(default=1, ge=1)
    changes: int = Field(
        default=0, ge=0, description="how often this was changed; the larger number is the later state"
    )
    marks: tuple[str, ...] = Field(
        default=(), description="random words of the last changes, newest last, where the store needs them"
    )
    current: int | None = None
    pinned: bool = False
    revisions: tuple[Revision, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        numbers = [r.revision for r in self.revisions]
        if numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= self.next_revision):
            raise ValueError(f"revisions must rise and stay below next_revision {self.next_revision}, got {numbers}")
        if self.current is not None and self.current not in numbers:
            raise ValueError(f"current revision {self.current} is not among {numbers}")
        return self

    def find(self, revision: int | None) -> Revision | None:
        """The revision of that number; None asks for the current one."""
        wanted = self.current if revision is None else revision
        return next((r for r in self.revisions if r.revision == wanted), None)

    def with_digest(self, digest: str) -> Revision | None:
        """The newest revision with these bytes."""
        return next((r for r in reversed(self.revisions) if r.digest == digest), None)

    def adding(self, digest: str, size: int, created: str, *, activate: bool) -> tuple["SetState", Revision]:
        """The state with one more revision. The first one becomes current whatever `activate` says: a set needs one."""
        new = Revision(revision=self.next_revision, digest=digest, bytes=size, created=created)
        current = new.revision if activate or self.current is None else self.current
        state = self.replacing(revisions=(*self.revisions, new), next_revision=new.revision + 1, current=current)
        return state, new

    def without(self, revision: int | None) -> "SetState":
        """The state without one revision, or (None) without any; the numbering goes on."""
        if revision is None:
            return self.replacing(revisions=(), current=None, pinned=False)
        return self.replacing(revisions=tuple(r for r in self.revisions if r.revision != revision))

    def changed(self, mark: str) -> "SetState":
        """The state with a change counted, and marked unless the mark is empty."""
        marks = (*self.marks, mark)[-MOST_MARKS:] if mark else ()
        return self.replacing(changes=self.changes + 1, marks=marks)

    def document(self) -> bytes:
        """As it is stored."""
        return self.model_dump_json(indent=1, exclude=None if self.marks else {"marks"}).encode()

    def replacing(self, **changes: object) -> "SetState":
        """A validated copy with other values."""
        return SetState.model_validate({**self.model_dump(), **changes})
