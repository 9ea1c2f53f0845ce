"""The dataset folder that an import makes: links to photos, label maps, lists, names of classes."""

import csv
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.data.folder import META_FILE, PHOTO_FOLDER, SPLITS
from mtlora.data.importing.photos import FoundPhoto
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task, voc_color

CLASSES_FILES: Mapping[Task, str] = {Task.SEMSEG: "classes.txt", Task.HUMAN_PARTS: "classes-human_parts.txt"}
"""Where the names of a task's classes are: UTF-8, line i is class i."""
JOINT = "__"
"""Between the folders of a photo's path in its ID, which may have none."""
_LONGEST_ID = 200


def photo_ids(names: Sequence[str]) -> dict[str, str]:
    """IDs of photos by their paths: no folders, no endings, each once; what all paths begin with is left away."""
    folders = [name.split("/")[:-1] for name in names]
    common = 0
    while folders and all(len(f) > common and f[common] == folders[0][common] for f in folders):
        common += 1
    taken: set[str] = set()
    found = {}
    for name in names:
        stem, _, suffix = "/".join(name.split("/")[common:]).rpartition(".")
        parts = [part for part in stem.split("/") if part.lower() not in {"images", "jpegimages", "leftimg8bit"}]
        base = " ".join(JOINT.join(parts).split())[-_LONGEST_ID:] or "photo"
        choices = [base, f"{base}_{suffix}", *(f"{base}_{number}" for number in range(2, len(names) + 2))]
        found[name] = next(choice for choice in choices if choice.lower() not in taken)
        taken.add(found[name].lower())
    return found


def link_photo(photo: FoundPhoto, folder: Path, name: str, *, copy: bool) -> None:
    """Put a photo into a dataset: by a link, which takes no space, or as a copy."""
    target = folder / PHOTO_FOLDER / f"{name}{photo.path.suffix.lower()}"
    source = photo.path.resolve()
    if copy:
        shutil.copyfile(source, target)
        return
    try:
        target.symlink_to(source)
    except OSError:  # systems where links are a privilege
        try:
            os.link(source, target)
        except OSError as error:
            raise DataError(f"no link to {source} can be made in {folder} ({error.strerror}): use --copy") from error


def save_labels(labels: NDArray[np.uint8], folder: Path, task: Task, name: str) -> None:
    """A label map as PNG, with colours where its values are classes."""
    image = Image.fromarray(labels)
    if task in CLASSES_FILES:
        image.putpalette([level for index in range(256) for level in voc_color(index)])
    image.save(folder / task.value / f"{name}.png")


def save_lists(folder: Path, splits: Mapping[str, Sequence[str]]) -> None:
    """`ImageSets/SPLIT.txt`, one ID a line."""
    for split, ids in splits.items():
        _write_lines(folder / SPLITS / f"{split}.txt", ids)


def save_classes(folder: Path, task: Task, names: Sequence[str]) -> None:
    """Names of a task's classes, one a line."""
    _write_lines(folder / CLASSES_FILES[task], names)


def save_origins(folder: Path, rows: Iterable[tuple[str, str]]) -> None:
    """`meta.csv`: the ID of each photo, and what its file was called in the export."""
    with (folder / META_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "file"])
        writer.writerows(rows)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
