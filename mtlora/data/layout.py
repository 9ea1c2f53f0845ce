"""The search for photos and labels of a dataset, in any known layout (see docs/dataset-format.md)."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mtlora.data import folder, nyud, pascal
from mtlora.data.findings import in_place
from mtlora.data.importing.recognise import advice
from mtlora.data.lists import PHOTO_SUFFIXES, files_by_id, split_names
from mtlora.data.records import Collected, PhotoDataset, PhotoRecord
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
    raise DataError(f"{root} is not a dataset: {_lacking(root)}")


def _lacking(root: Path) -> str:
    if not root.is_dir():
        return "it does not exist" if not root.exists() else "it is no folder"
    photos = files_by_id(root / folder.PHOTO_FOLDER, PHOTO_SUFFIXES)
    labelled = any((root / task.value).is_dir() for task in Task)
    if (not photos or not labelled) and (export := advice(root)):
        return export
    if photos:
        return (
            f"it has {len(photos)} photos in {folder.PHOTO_FOLDER}/, but no lists of them in {folder.SPLITS}/; "
            f"`mtlora data split {root}` makes train.txt and val.txt"
        )
    return "; ".join(f"{layout.NAME} has {layout.SPLITS}/" for layout in LAYOUTS)


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
    problems = [finding.line() for finding in in_place(found.problems, root)]
    problems += [_unlabelled(found.dataset, task) for task in tasks if not found.dataset.count(task)]
    if problems:
        count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
        raise DataError(f"{count} in {root}", problems[:MAX_PROBLEMS_SHOWN])
    return found.dataset


def _unlabelled(dataset: PhotoDataset, task: Task) -> str:
    there = [each.value for each in Task if dataset.count(each)]
    folder = dataset.folders.get(task, f"{task.value}/")
    return (
        f"no photo of split {dataset.split!r} has a label in {folder}; "
        f"labelled are {', '.join(there) or 'no tasks'} (docs/dataset-format.md has the files of each task)"
    )


def open_photos(root: Path) -> PhotoDataset:
    """Every photo that lies directly in `root`, sorted by name, without labels."""
    paths = sorted(path for path in root.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise DataError(f"no photos ({', '.join(PHOTO_SUFFIXES)}) directly in {root}")
    return PhotoDataset(root, "", tuple(PhotoRecord(path.stem, path, {}, {}) for path in paths))
