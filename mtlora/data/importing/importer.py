"""The import as a whole: an export is read, its labels are drawn, a dataset folder appears or nothing does."""

import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlora.data.cache import Progress, no_progress
from mtlora.data.folder import PHOTO_FOLDER, SPLITS
from mtlora.data.importing import write
from mtlora.data.importing.documents import MOST_TEXT_BYTES, read_lines
from mtlora.data.importing.draw import Numbering, draw, numbering
from mtlora.data.importing.recognise import AUTO, find_format
from mtlora.data.importing.shapes import Export, LabelledPhoto, class_name
from mtlora.data.importing.source import Source
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

TASKS = (Task.SEMSEG, Task.HUMAN_PARTS, Task.SALIENCY)
TRAIN, VAL = "train", "val"
USUAL_SHARE = 0.8
MAX_PROBLEMS_SHOWN = 20
_SALIENT = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What is wanted of an import.

    format:     a name of `recognise.FORMATS`, or `auto`
    tasks:      of `TASKS`; the same shapes make the labels of each
    split:      share of the photos that are trained on; None: as the export has them, else 0.8
    classes:    file with the names of the classes, one a line
    photos:     more folders with photos
    copy:       copy photos in place of links
    skip_bad:   leave photos with problems out, in place of stopping
    skip_empty: leave photos without any shape out, in place of taking them for background
    """

    format: str = AUTO
    tasks: tuple[Task, ...] = (Task.SEMSEG,)
    split: float | None = None
    seed: int = 0
    classes: Path | None = None
    photos: tuple[Path, ...] = ()
    copy: bool = False
    skip_bad: bool = False
    skip_empty: bool = False

    def __post_init__(self) -> None:
        if self.split is not None and not 0 < self.split <= 1:
            raise DataError(f"--split is a share above 0, up to 1, got {self.split}")
        if not self.tasks or not set(self.tasks) <= set(TASKS) or set(self.tasks) >= {Task.SEMSEG, Task.HUMAN_PARTS}:
            raise DataError(
                f"--task is semseg or human_parts, and saliency alone or beside it, got "
                f"{', '.join(task.value for task in self.tasks) or 'none'}"
            )


@dataclass(slots=True)
class ImportReport:
    """What an import made.

    splits:  IDs by split
    classes: names of the classes of semseg or human_parts; empty for saliency alone
    photos:  by class, how many photos have it
    shares:  by class, its part of all pixels; `ignore` is one
    """

    format: str
    overlap: str
    splits: dict[str, list[str]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    photos: Counter[str] = field(default_factory=Counter)
    shares: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def import_export(path: Path, out: Path, options: ImportOptions, progress: Progress = no_progress) -> ImportReport:
    """Make the dataset folder `out` of an export; `DataError` lists what is wrong, and then nothing is written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already, and not empty: give a new folder")
    wanted = read_classes(options.classes) if options.classes is not None else ()
    source = Source(path, options.photos, wanted, soft=options.tasks == (Task.SALIENCY,))
    export: Export = find_format(options.format, source).read(source)
    _take_once(export)
    if options.skip_empty:
        _leave_empty_out(export)
    _refuse_none(export)
    classed = next((task for task in options.tasks if task is not Task.SALIENCY), None)
    numbers = numbering(export, classed or Task.SEMSEG, wanted) if not export.soft else Numbering((), {})
    with _staged(out) as folder:
        return _Run(folder, export, options, numbers, classed).all(progress)


def read_classes(path: Path) -> tuple[str, ...]:
    """Names of classes, one a line; `DataError` where one is none, or there twice."""
    names = tuple(class_name(line, str(path)) for line in read_lines(path, MOST_TEXT_BYTES))
    if not names:
        raise DataError(f"{path} names no class: one name a line")
    if len(set(names)) < len(names):
        raise DataError(f"{path} names {', '.join(sorted(n for n, c in Counter(names).items() if c > 1))} twice")
    return names


def assign(photos: Sequence[LabelledPhoto], share: float | None, seed: int) -> list[str]:
    """The split of each photo: the export's where it has one of each and no share is asked for, else by lot."""
    own = [photo.split for photo in photos]
    if share is None and all(own) and {TRAIN, VAL} <= set(own):
        return own
    count = len(photos)
    trained = round(count * (USUAL_SHARE if share is None else share))
    if share != 1 and count > 1:
        trained = min(max(trained, 1), count - 1)  # a split without a photo cannot be read
    order = np.random.default_rng(seed).permutation(count)
    splits = [VAL] * count
    for place in order[:trained].tolist():
        splits[place] = TRAIN
    return splits


def _take_once(export: Export) -> None:
    """Photos that several documents label would be two; the others are refused in words."""
    seen: set[Path] = set()
    kept = []
    for photo in export.photos:
        if photo.photo.path in seen:
            export.problems.append(f"{photo.photo.name} is labelled twice, in two documents or entries")
            continue
        seen.add(photo.photo.path)
        kept.append(photo)
    export.photos = kept


def _leave_empty_out(export: Export) -> None:
    kept = [photo for photo in export.photos if photo.shapes or photo.ready is not None]
    export.left_out["photos without any shape"] += len(export.photos) - len(kept)
    export.photos = kept


def _refuse_none(export: Export) -> None:
    """Say why nothing is labelled, before anything is said of classes, which are not known then."""
    kinds = ", ".join(f"{count} {what}" for what, count in export.left_out.most_common() if count)
    shown = export.problems[:MAX_PROBLEMS_SHOWN]
    if not export.photos and shown:
        raise DataError(f"{len(export.problems)} problems; nothing was written", shown)
    if not export.photos:
        raise DataError(f"this {export.format} has no photo with labels: {kinds or 'it lists none'}")
    if kinds and not any(photo.shapes or photo.ready is not None for photo in export.photos):
        raise DataError(f"this {export.format} has no outlines of anything: {kinds}. Segmentation needs areas", shown)


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, or goes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    folder.mkdir()
    try:
        yield folder
        if out.exists():
            out.rmdir()
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """One import on its way."""

    def __init__(
        self, folder: Path, export: Export, options: ImportOptions, numbers: Numbering, classed: Task | None
    ) -> None:
        self.folder, self.export, self.options = folder, export, options
        self.numbers, self.classed = numbers, classed
        self.report = ImportReport(export.format, export.overlap.value, classes=numbers.names if classed else ())
        self.pixels = np.zeros(256, np.int64)

    def all(self, progress: Progress) -> ImportReport:
        """Labels, links, lists, names; `DataError` with all problems."""
        for part in (PHOTO_FOLDER, SPLITS, *(task.value for task in self.options.tasks)):
            (self.folder / part).mkdir()
        ids = write.photo_ids([photo.photo.name for photo in self.export.photos])
        good: list[LabelledPhoto] = []
        for number, photo in enumerate(self.export.photos, 1):
            try:
                self._one(photo, ids[photo.photo.name])
                good.append(photo)
            except DataError as error:
                where = "" if photo.photo.name in str(error) else f"{photo.photo.name}: "
                self.export.problems.append(f"{where}{error}")
            progress(number, len(self.export.photos))
        self._refuse(good)
        splits: dict[str, list[str]] = {}
        for photo, split in zip(good, assign(good, self.options.split, self.options.seed), strict=True):
            splits.setdefault(split, []).append(ids[photo.photo.name])
        self.report.splits = dict(sorted(splits.items()))
        write.save_lists(self.folder, splits)
        write.save_origins(self.folder, [(ids[photo.photo.name], photo.photo.name) for photo in good])
        if self.classed is not None:
            write.save_classes(self.folder, self.classed, self.numbers.names)
        self._describe()
        return self.report

    def _one(self, photo: LabelledPhoto, name: str) -> None:
        labels = draw(photo, self.export, self.numbers.values)
        counts = np.bincount(labels.ravel(), minlength=256)
        for task in self.options.tasks:
            write.save_labels(labels if task is self.classed else self._salient(labels), self.folder, task, name)
        write.link_photo(photo.photo, self.folder, name, copy=self.options.copy)
        self.pixels += counts
        for index, known in enumerate(self.numbers.names):
            self.report.photos[known] += int(counts[index] > 0)

    def _salient(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.export.soft:
            return labels
        inside = (labels > 0) & (labels != IGNORE_INDEX)
        return np.where(inside, _SALIENT, 0).astype(np.uint8)

    def _refuse(self, good: Sequence[LabelledPhoto]) -> None:
        export, problems = self.export, self.export.problems
        if problems and not self.options.skip_bad:
            more = "" if len(problems) <= MAX_PROBLEMS_SHOWN else f" (the first {MAX_PROBLEMS_SHOWN})"
            summary = f"{len(problems)} problems{more}; nothing was written; --skip-bad leaves these photos out"
            raise DataError(summary, problems[:MAX_PROBLEMS_SHOWN])
        if not good:
            raise DataError(f"no photo of this {export.format} is left", problems[:MAX_PROBLEMS_SHOWN])

    def _describe(self) -> None:
        export, report = self.export, self.report
        report.problems = list(export.problems)
        report.notes += export.notes
        report.notes += [f"left out: {count} {what}" for what, count in export.left_out.most_common() if count]
        if self.numbers.unlisted:
            report.notes.append(f"became background, being no class of the list: {', '.join(self.numbers.unlisted)}")
        empty = sum(1 for photo in export.photos if not photo.shapes and photo.ready is None)
        if empty:
            report.notes.append(
                f"{empty} photos without any shape are background all over; --skip-empty leaves them out"
            )
        if not export.soft:
            report.shares = _shares(self.pixels, self.numbers.names)
            missing = [name for name in self.numbers.names[1:] if not report.photos[name]]
            report.notes += [f"no photo has {', '.join(missing)}"] if missing else []


def _shares(pixels: NDArray[np.int64], names: Sequence[str]) -> Mapping[str, float]:
    total = max(1, int(pixels.sum()))
    shares = {name: float(pixels[index] / total) for index, name in enumerate(names)}
    return shares | ({"ignore": float(pixels[IGNORE_INDEX] / total)} if pixels[IGNORE_INDEX] else {})
