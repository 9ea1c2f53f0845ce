"""The classes of labels, counted: how many pixels and how many labels show each, and what that says of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mtlora.data.findings import TO_MASKS, Finding
from mtlora.data.records import LabelArray
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

_VALUES = IGNORE_INDEX + 1
_LIKE_A_CLASS = 0.01
"""Above this share of the pixels 255 may be a class that never occurs."""
_MOST_IGNORED = 0.5
_SHOWN = 8
_FEW = 3  # a dataset with more of a layout's classes is probably that layout's


@dataclass(slots=True)
class ClassCounts:
    """Label values of a task in one split.

    pixels: int64 [256]; labels: int64 [256], how many labels show a value
    total:  labels; ends: those that hold 255 and nothing else but 0
    """

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_VALUES, np.int64))
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_VALUES, np.int64))
    total: int = 0
    ends: int = 0

    def add(self, label: LabelArray) -> None:
        """One more label, uint8 [H, W]."""
        found = np.bincount(label.ravel(), minlength=_VALUES)
        self.pixels += found
        self.labels += found > 0
        self.total += 1
        self.ends += bool(found[IGNORE_INDEX]) and not found[1:IGNORE_INDEX].any()

    def share(self, value: int) -> float:
        """Of all pixels, 0..1."""
        return float(self.pixels[value] / max(1, self.pixels.sum()))

    @property
    def values(self) -> list[int]:
        """Those that occur, without 255."""
        return [int(value) for value in np.flatnonzero(self.pixels[:IGNORE_INDEX])]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of a task in every split that was looked at.

    names: of the values 0, 1, …; own: whether they are those of the dataset or the user, not a layout's
    """

    task: Task
    names: tuple[str, ...]
    own: bool
    splits: dict[str, ClassCounts]

    def lines(self) -> list[str]:
        """A table: value, name, share of all pixels, and how many labels of each split show it."""
        total = self._total()
        if not total.total:
            return []
        shown = [v for v in range(len(self.names)) if self.own or total.pixels[v]]
        strays = [value for value in total.values if value >= len(self.names)]
        shown += strays[:_SHOWN]
        rows = [(value, self._name(value)) for value in shown]
        rows += [(IGNORE_INDEX, "(ignored)")] if total.pixels[IGNORE_INDEX] else []
        width = max([len(name) for _, name in rows], default=0)
        labelled = ", ".join(f"{split} {counts.total}" for split, counts in self.splits.items())
        lines = [f"{self.task}: share of the pixels, and labels that show it (of {labelled})"]
        for value, name in rows:
            seen = "  ".join(f"{split} {counts.labels[value]}" for split, counts in self.splits.items())
            lines.append(f"  {value:>3} {name:<{width}} {total.share(value):>7.2%}  {seen}")
        rest = len(strays) - _SHOWN
        return [*lines, f"  and {rest} more values that are no class"] if rest > 0 else lines

    def problems(self) -> list[Finding]:
        """Labels from which nothing can be learned."""
        taught = self.splits.get("train", self._total())
        if len(taught.values) > 1 or not taught.total:
            return []
        only = self._name(taught.values[0]) if taught.values else "no class"
        ignored = taught.share(IGNORE_INDEX)
        if not ignored:
            return [Finding(f"{self.task} labels hold only {only}: nothing can be learned from them")]
        cause = f"{self.task} labels hold only {only} and 255 (ignore), which covers {ignored:.1%}"
        asked = "Are these 0/255 masks?" if taught.values == [0] else "Is 255 another class, such as background?"
        return [Finding(f"{cause}: nothing can be learned from them. {asked}", mend=TO_MASKS)]

    def notes(self) -> list[Finding]:
        """Classes that never occur, and 255 where it looks like one."""
        total, notes = self._total(), []
        if not total.total:
            return []
        absent = [name for value, name in enumerate(self.names) if not total.pixels[value]]
        ignored = total.share(IGNORE_INDEX)
        is_telling = self.task is Task.SEMSEG  # of people there are labels that know nothing, by rule
        if absent and self.own and ignored > _LIKE_A_CLASS:
            notes.append(
                Finding(
                    f"{self.task} labels never hold {listed(absent)}, while 255 (ignore) covers {ignored:.1%}: "
                    f"is 255 one of these classes?",
                    mend=TO_MASKS,
                )
            )
        elif absent and self.own:
            notes.append(Finding(f"{self.task} labels never hold {listed(absent)}"))
        elif len(absent) > 1:
            is_few = is_telling and len(total.values) <= _FEW and ignored > _LIKE_A_CLASS
            asked = f". 255 (ignore) covers {ignored:.1%}: is it one of your classes?" if is_few else ""
            notes.append(Finding(self._of_the_layout(absent) + asked, mend=TO_MASKS if asked else ""))
        if is_telling and ignored > _MOST_IGNORED:
            notes.append(Finding(f"255 (ignore) covers {ignored:.1%} of the {self.task} labels"))
        if is_telling and self.own and total.ends and len(total.values) > 1:
            notes.append(Finding(f"{total.ends} of {total.total} {self.task} labels hold only 0 and 255"))
        return [*notes, *self._untaught()]

    def _untaught(self) -> list[Finding]:
        """What is scored and not taught."""
        train, val = self.splits.get("train"), self.splits.get("val")
        if train is None or val is None:
            return []
        notes = []
        if len(val.values) < 2 and val.total:
            only = self._name(val.values[0]) if val.values else "no class"
            notes.append(Finding(f"{self.task} labels of val hold only {only}: scores on them say nothing"))
        names = [self._name(v) for v in val.values if not train.pixels[v] and v < len(self.names)]
        if names:
            notes.append(Finding(f"{self.task} labels of val hold {listed(names)}, those of train do not"))
        return notes

    def _of_the_layout(self, absent: Sequence[str]) -> str:
        return (
            f"{self.task}: {len(absent)} of {len(self.names)} classes occur in no label ({listed(absent)}); "
            f"classes of your own are named in classes.txt or with --semseg-classes"
        )

    def _name(self, value: int) -> str:
        return self.names[value] if value < len(self.names) else "(no class)"

    def _total(self) -> ClassCounts:
        total = ClassCounts()
        for counts in self.splits.values():
            total.pixels += counts.pixels
            total.labels += counts.labels
            total.total += counts.total
            total.ends += counts.ends
        return total


def wrong_values(label: LabelArray, classes: int) -> list[int]:
    """Values of a label, uint8 [H, W], that are no class and not 255."""
    found = np.unique(label)
    return [int(value) for value in found if classes <= value < IGNORE_INDEX]


def listed(names: Sequence[str]) -> str:
    """Names in words, the first few where they are many."""
    rest = len(names) - _SHOWN
    return f"{', '.join(names[:_SHOWN])}{f' and {rest} more' if rest > 0 else ''}"
