"""The folder layout of a training dataset: which photos there are, and which labels each one has.

    DIR/JPEGImages/ID.jpg         RGB photo (also .jpeg, .png)
    DIR/ImageSets/SPLIT.txt       one ID a line
    DIR/semseg/ID.png             class indices, 255 = ignore
    DIR/human_parts/ID.png        class indices, 255 = ignore
    DIR/saliency/ID.png           grey, 255 * p
    DIR/normals/ID.png            RGB, (n + 1) * 127.5, exactly (0, 0, 0) = ignore, any size
    DIR/edge/ID.png               grey, 255 * p
    DIR/depth/ID.png              16-bit grey, millimetres, 0 = ignore, any size
    DIR/meta.csv                  optional; column `id`, and a column per task with the label's origin

Any label may be missing for any photo. A folder that holds nothing but photos is a dataset without labels.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtlora.errors import DataError
from mtlora.tasks import Task

PHOTO_FOLDER = "JPEGImages"
SPLIT_FOLDER = "ImageSets"
META_FILE = "meta.csv"
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """One photo and the labels it has; `labels` may be empty."""

    id: str
    photo: Path
    labels: dict[Task, Path]
    origin: dict[Task, str]  # what meta.csv says of a label, such as gt or pseudo; empty without meta.csv


@dataclass(frozen=True, slots=True)
class PhotoDataset:
    """The photos of one split, in the order of its list."""

    root: Path
    split: str
    records: tuple[PhotoRecord, ...]

    def __len__(self) -> int:
        return len(self.records)

    def count(self, task: Task) -> int:
        """Number of photos that have a label of `task`."""
        return sum(task in record.labels for record in self.records)


def open_dataset(root: Path, split: str, tasks: Sequence[Task] = ()) -> PhotoDataset:
    """Find the photos of `split` and their labels; `DataError` lists everything that is wrong.

    tasks: each of these must have a label for at least one photo; empty asks for photos only
    """
    if not (root / PHOTO_FOLDER).is_dir():
        raise DataError(f"{root} is not a dataset: it has no folder {PHOTO_FOLDER}")
    ids = _read_split(root / SPLIT_FOLDER / f"{split}.txt")
    meta = _read_meta(root / META_FILE)
    photos = {path.stem: path for path in (root / PHOTO_FOLDER).iterdir() if path.suffix.lower() in PHOTO_SUFFIXES}
    labels = {task: _stems(root / task.value) for task in Task}
    problems = [f"photo {name!r} of split {split!r} is missing in {PHOTO_FOLDER}" for name in ids if name not in photos]
    records = tuple(
        PhotoRecord(
            id=name,
            photo=photos[name],
            labels={task: found[name] for task, found in labels.items() if name in found},
            origin={task: meta[name][task.value] for task in Task if meta.get(name, {}).get(task.value)},
        )
        for name in ids
        if name in photos
    )
    dataset = PhotoDataset(root, split, records)
    problems += [
        f"no photo of split {split!r} has a label in {task.value}/" for task in tasks if not dataset.count(task)
    ]
    if problems:
        raise DataError(f"{len(problems)} problems in {root}", problems[:MAX_PROBLEMS_SHOWN])
    return dataset


def open_photos(root: Path) -> PhotoDataset:
    """Every photo that lies directly in `root`, sorted by name, without labels."""
    paths = sorted(path for path in root.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise DataError(f"no photos ({', '.join(PHOTO_SUFFIXES)}) directly in {root}")
    return PhotoDataset(root, "", tuple(PhotoRecord(path.stem, path, {}, {}) for path in paths))


def _read_split(path: Path) -> list[str]:
    if not path.is_file():
        known = sorted(other.stem for other in path.parent.glob("*.txt"))
        raise DataError(f"no split {path.stem!r}: {path} does not exist; splits there: {', '.join(known) or 'none'}")
    ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not ids:
        raise DataError(f"split {path.stem!r} is empty: {path}")
    doubles = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) != len(ids) else []
    if doubles:
        raise DataError(f"split {path.stem!r} lists photos twice", doubles[:MAX_PROBLEMS_SHOWN])
    return ids


def _read_meta(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "id" not in rows[0]:
        raise DataError(f"{path} has no column 'id', only {', '.join(rows[0])}")
    return {row["id"]: row for row in rows}


def _stems(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.png")} if folder.is_dir() else {}
