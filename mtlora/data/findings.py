"""What a check finds, gathered by cause: one line for each, with a count, a few files, and what mends it."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

_SHOWN = 3
_FOLDER = re.compile(r"\bDIR\b")

AS_PNG = "Export them as PNG from where they were drawn, or `mtlora data import masks DIR OUT`"
TO_MASKS = "`mtlora data import masks DIR OUT` turns masks of other values or colours into indices"


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause, and where it was seen.

    cause: in words; what it is about comes first, such as `semseg labels hold class 30, expected 0..20 or 255`
    where: files or IDs, in the order in which they were seen; empty where the cause names no file
    mend:  a command, or what to do; may be empty
    """

    cause: str
    where: tuple[str, ...] = ()
    mend: str = ""

    def line(self, most: int = _SHOWN) -> str:
        """All of it in one line, `most` of the files by name."""
        shown = ", ".join(self.where[:most])
        more = len(self.where) - most
        text = f"{self.cause}: {len(self.where)}, {shown}" if self.where else self.cause
        text += f" and {more} more" if more > 0 else ""
        return f"{text}{'' if text.endswith('?') else '.'} {self.mend}" if self.mend else text


def in_place(findings: Sequence[Finding], root: Path) -> tuple[Finding, ...]:
    """The same, with the dataset's own folder in place of `DIR` in commands."""
    name = shlex.quote(str(root))
    return tuple(replace(finding, mend=_FOLDER.sub(lambda _: name, finding.mend)) for finding in findings)


@dataclass(slots=True)
class Findings:
    """Findings while they come, file by file."""

    _where: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def add(self, cause: str, where: str = "", mend: str = "") -> None:
        """One more file with this cause; causes of the same words are one, and so are files of the same name."""
        files = self._where.setdefault((cause, mend), {})
        if where:
            files[where] = None

    def extend(self, findings: Sequence[Finding]) -> None:
        """More of them."""
        for finding in findings:
            self._where.setdefault((finding.cause, finding.mend), {}).update(dict.fromkeys(finding.where))

    def all(self) -> tuple[Finding, ...]:
        """One for each cause, in the order in which causes were first seen."""
        return tuple(Finding(cause, tuple(files), mend) for (cause, mend), files in self._where.items())
