"""The check of `mtlora data check`: reads every file of a dataset and reports all faults at once, a line a cause."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from mtlora.data import folder
from mtlora.data.agreement import cannot_be_told, disagreement, sizes_in_words
from mtlora.data.cache import Progress, no_progress
from mtlora.data.findings import AS_PNG, TO_MASKS, Finding, Findings, in_place
from mtlora.data.histogram import ClassCounts, Histogram, wrong_values
from mtlora.data.layout import collect, find_layout, splits_of
from mtlora.data.lists import lists_below
from mtlora.data.magnitudes import Magnitudes, fault_measure, label_fault, label_note
from mtlora.data.own_classes import OwnClasses, classes_of
from mtlora.data.photos import PhotoShape, PhotoTraits, photo_traits
from mtlora.data.records import LabelArray, LabelSource, PhotoDataset, PhotoRecord
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

_FEW_VALUES = 12  # more wrong values than that in one label are no classes, but shades


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found.

    counts:   split -> task -> photos with that label; the number of photos under None
    photos:   how many photos have what a careless reader would miss, by its name
    tables:   lines about the values of each task's labels
    problems: what stops training, or spoils it; one for each cause
    notes:    what may be meant so, and should be looked at
    """

    layout: str
    counts: dict[str, dict[Task | None, int]]
    photos: dict[str, int]
    tables: tuple[str, ...]
    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...]


def check_dataset(
    root: Path, splits: Sequence[str] = (), *, own: OwnClasses | None = None, progress: Progress = no_progress
) -> CheckReport:
    """Look at every photo and label of these splits (none named: all).

    own: classes of semseg where they are the user's, by name or number; default: the dataset's
    """
    layout = find_layout(root)
    names = tuple(splits) or tuple(splits_of(root))
    if not names:
        below = lists_below(root / layout.SPLITS) or f"`mtlora data split {root}` makes train.txt and val.txt"
        raise DataError(f"{root / layout.SPLITS} holds no list of photos (SPLIT.txt): {below}")
    check = _Check(own)
    check.problems.extend(folder.orphans(root) if layout is folder else ())
    datasets: dict[str, PhotoDataset] = {}
    for name in names:
        try:
            found = collect(root, name)
        except DataError as error:
            check.problems.extend([_of_error(error)])
            continue
        datasets[name] = found.dataset
        check.problems.extend(found.problems)
        check.notes.extend(found.notes)
    check.problems.extend(_shared(datasets))
    total, done = sum(map(len, datasets.values())), 0
    for name, dataset in datasets.items():
        check.begin(name, dataset)
        for record in dataset.records:
            check.look(name, record)
            done += 1
            progress(done, total)
    counts = {name: _counts(dataset) for name, dataset in datasets.items()}
    if not splits:
        check.notes.extend(_absent(names))
    others = folder.other_folders(root) if layout is folder else ()
    elsewhere = f"Labels lie in semseg/, human_parts/, …; there are {', '.join(others)}" if others else ""
    report = check.report(layout.NAME, counts, elsewhere)
    return replace(report, problems=in_place(report.problems, root), notes=in_place(report.notes, root))


@dataclass(slots=True)
class _Check:
    """What is found while files are read."""

    own: OwnClasses | None
    problems: Findings = field(default_factory=Findings)
    notes: Findings = field(default_factory=Findings)
    _photos: dict[Path, PhotoTraits] = field(default_factory=dict)
    _classes: dict[Task, tuple[str, ...]] = field(default_factory=dict)
    _named: set[Task] = field(default_factory=set)
    _axes: str = ""
    _values: dict[Task, dict[str, ClassCounts]] = field(default_factory=dict)
    _magnitudes: dict[Task, Magnitudes] = field(default_factory=dict)

    def begin(self, split: str, dataset: PhotoDataset) -> None:
        """Take over what a dataset says of its labels."""
        self._classes = classes_of(dataset, self.own)
        self._named = set(dataset.declared) | ({Task.SEMSEG} if self.own else set())
        self._axes = dataset.axes
        for task in self._classes:
            if dataset.count(task):
                self._values.setdefault(task, {})[split] = ClassCounts()

    def look(self, split: str, record: PhotoRecord) -> None:
        """Read a photo and its labels."""
        shape = None
        try:
            traits = self._photos.get(record.photo) or photo_traits(record.photo)
            self._photos[record.photo] = traits
            shape = traits.shape
        except DataError as error:
            self.problems.add("photos cannot be read", _file_fault(record.photo, error))
        for task, source in record.labels.items():
            try:
                label = source.load()
            except DataError as error:
                self.problems.add(*_unreadable(task, source, error))
                continue
            if shape is not None:
                self._size(task, source, label, shape)
            self._label(split, task, source, label)

    def _size(self, task: Task, source: LabelSource, label: LabelArray, shape: PhotoShape) -> None:
        size = label.shape[1], label.shape[0]
        cause, mend = disagreement(size, shape)
        if cause:
            self.problems.add(f"labels {cause}", f"{source.shown} ({sizes_in_words(size, shape)})", mend)
        elif size != shape.size and task not in (Task.NORMALS, Task.DEPTH):
            self.notes.add(
                "labels have another size than their photos, of the same shape; they are resized",
                f"{source.shown} ({sizes_in_words(size, shape)})",
            )
        if cannot_be_told(size, shape):
            self.notes.add(
                "whether labels of these turned photos (EXIF orientation) are upright cannot be seen from their size",
                source.shown,
                "Look at batch.png of `mtlora train --dry-run`; `mtlora data upright DIR OUT --all` turns them",
            )

    def _label(self, split: str, task: Task, source: LabelSource, label: LabelArray) -> None:
        if task not in self._classes:
            self._magnitudes.setdefault(task, Magnitudes(task, self._axes)).add(label)
            for found, where in ((label_fault(task, label), self.problems), (label_note(task, label), self.notes)):
                if found:
                    where.add(f"{task} labels {found}", f"{source.shown} ({fault_measure(task, label)})")
            return
        self._values[task][split].add(label)
        highest = len(self._classes[task]) - 1
        wrong = wrong_values(label, highest + 1)
        if len(wrong) > _FEW_VALUES:
            cause = f"{task} labels hold many values that are no class (0..{highest} or {IGNORE_INDEX})"
            mend = "They look smoothed: resize without interpolation, and never save labels as JPEG"
            self.problems.add(cause, f"{source.shown} ({len(wrong)} values)", mend)
        elif wrong:
            shown = f"{source.shown} (class {', '.join(map(str, wrong))})"
            cause = f"{task} labels hold classes that there are not, expected 0..{highest} or {IGNORE_INDEX}"
            self.problems.add(cause, shown, f"Name all classes in classes.txt, or {TO_MASKS}")

    def report(self, layout: str, counts: dict[str, dict[Task | None, int]], elsewhere: str) -> CheckReport:
        """All of it; elsewhere: where labels may lie instead, in words."""
        tables: list[str] = []
        for task, splits in self._values.items():
            histogram = Histogram(task, self._classes[task], task in self._named, splits)
            tables += histogram.lines()
            self.problems.extend(histogram.problems())
            self.notes.extend(histogram.notes())
        for magnitudes in self._magnitudes.values():
            tables.append(magnitudes.line())
            self.problems.extend(magnitudes.problems())
            self.notes.extend(magnitudes.notes())
        for name in (name for name, count in counts.items() if len(count) == 1):
            self.problems.add("no photo of these splits has any label", name, elsewhere)
        photos = list(self._photos.values())
        self._endings()
        return CheckReport(layout, counts, _traits(photos), tuple(tables), self.problems.all(), self.notes.all())

    def _endings(self) -> None:
        """Names of photos that some systems tell apart, and others do not."""
        for path in self._photos:
            if path.suffix != path.suffix.lower():
                self.notes.add(f"photos end in {path.suffix}; read as {path.suffix.lower()}", path.name)


def _traits(photos: Sequence[PhotoTraits]) -> dict[str, int]:
    return {
        "turned by EXIF orientation": sum(photo.is_turned for photo in photos),
        "transparent, laid over white": sum(photo.is_transparent for photo in photos),
        "grey of 16 bits, scaled to 8": sum(photo.is_deep for photo in photos),
        "with a colour profile": sum(photo.has_profile for photo in photos),
        "of other colours than sRGB, converted": sum(photo.is_converted for photo in photos),
    }


def _unreadable(task: Task, source: LabelSource, error: DataError) -> tuple[str, str, str]:
    """Cause, file and mend of a label that cannot be read; what follows `got` differs from file to file."""
    path = source.files[0]
    reason = str(error).removeprefix(f"{path}: ")
    if reason == str(error):
        return f"{task} labels cannot be read", f"{source.shown} ({_file_fault(path, error)})", ""
    cause, _, found = reason.partition(", got ")
    found, _, kind = found.partition(": ")
    cause += f", got {kind}" if kind else ""
    mend = TO_MASKS if "8-bit channel" in cause else ""
    mend = AS_PNG if "JPEG" in cause else mend
    return f"{task} labels: {cause}", f"{source.shown} ({found})" if found else source.shown, mend


def _file_fault(path: Path, error: DataError) -> str:
    """An error about a file, its folder left out."""
    return str(error).replace(str(path), path.name)


def _shared(datasets: Mapping[str, PhotoDataset]) -> list[Finding]:
    ids = {name: {record.id for record in dataset.records} for name, dataset in datasets.items()}
    return [
        Finding(f"photos are in both {a} and {b}", tuple(sorted(ids[a] & ids[b])))
        for a, b in combinations(ids, 2)
        if {a, b} == {"train", "val"} and ids[a] & ids[b]
    ]


def _of_error(error: DataError) -> Finding:
    if len(error.problems) == 1:
        return Finding(f"{error.summary}; {error.problems[0]}")
    return Finding(error.summary, error.problems)


def _absent(names: Sequence[str]) -> list[Finding]:
    """Splits that commands take where none is named."""
    there = ", ".join(names)
    return [
        Finding(f"there is no split {name}, which commands take where none is named: {what}; there are {there}")
        for name, what in (("train", "name one with --split"), ("val", "nothing to score on"))
        if name not in names
    ]


def _counts(dataset: PhotoDataset) -> dict[Task | None, int]:
    return {None: len(dataset)} | {task: dataset.count(task) for task in Task if dataset.count(task)}
