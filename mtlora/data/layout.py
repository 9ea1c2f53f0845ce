"""The search for photos and labels of a dataset, in any known layout (see docs/dataset-format.md)."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mtlora.data import folder, nyud, pascal
from mtlora.data.importing.recognise import advice
from mtlora.data.records import PHOTO_SUFFIXES, Collected, PhotoDataset, PhotoRecord, split_names
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task

MAX_PROBLEMS_SHOWN = 20
LAYOUTS: tuple[ModuleType, ...] = (nyud, pascal, folder)
"""Modules with `NAME`, `SPLITS` (folder of the lists) and `collect`; the first whose `SPLITS` exists is taken."""


def find_layout(root: Path) -> ModuleType:
    """The layout that `root` has; `DataError` says what the known ones need."""
    for layout in LAYOUTS:
        if (root / layout.SPLITS).is_dir():
            return layout
    if not root.is_dir():
        raise DataError(f"there is no folder {root}")
    export = advice(root)
    if export:
        raise DataError(f"{root} is not a dataset; {export}")
    needed = "; ".join(f"{layout.NAME} has {layout.SPLITS}/" for layout in LAYOUTS)
    raise DataError(f"{root} is not a dataset: {needed}")


def splits_of(root: Path) -> list[str]:
    """Names of all splits."""
    return split_names(root / find_layout(root).SPLITS)


def collect(root: Path, split: str) -> Collected:
    """The photos of `split` that are there, and every problem; no file but the lists is read."""
    found: Collected = find_layout(root).collect(root, split)
    return found


def open_dataset(root: Path, split: str, tasks: Sequence[Task] = ()) -> PhotoDataset:
    """Find the photos of `split` and their labels; `DataError` lists everything that is wrong.

    tasks: each of these must have a label for at least one photo; empty asks for photos only
    """
    found = collect(root, split)
    missing = [
        f"no photo of split {split!r} has a label in {task.value}/" for task in tasks if not found.dataset.count(task)
    ]
    problems = [*found.problems, *missing]
    if problems:
        raise DataError(f"{len(problems)} problems in {root}", problems[:MAX_PROBLEMS_SHOWN])
    return found.dataset


def open_photos(root: Path) -> PhotoDataset:
    """Every photo that lies directly in `root`, sorted by name, without labels."""
    paths = sorted(path for path in root.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise DataError(f"no photos ({', '.join(PHOTO_SUFFIXES)}) directly in {root}")
    return PhotoDataset(root, "", tuple(PhotoRecord(path.stem, path, {}, {}) for path in paths))
