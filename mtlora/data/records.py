"""Datasets as values, whatever folders they come from: photos of one split, and the labels each has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlora.data.findings import Finding
from mtlora.data.headers import header_size
from mtlora.vocabulary.tasks import HUMAN_PARTS_CLASSES, NORMALS_AXES, VOC_CLASSES, Task

LabelArray = NDArray[np.unsignedinteger[Any]]
"""A label as it is stored and cached: [H, W], normals [H, W, 3].

semseg, human_parts: uint8 class index, 255 = ignore; saliency, edge: uint8 255 * p; normals: uint8 (n + 1) * 127.5,
all three 0 = ignore; depth: uint16 millimetres, 0 = ignore.
"""

VOC_LABELS: Mapping[Task, tuple[str, ...]] = {Task.SEMSEG: VOC_CLASSES, Task.HUMAN_PARTS: HUMAN_PARTS_CLASSES}


Reader = Callable[..., LabelArray]


@dataclass(frozen=True, slots=True)
class LabelSource:
    """One label on disk: `read(*files)` gives it as a `LabelArray`; the first file names it in messages."""

    read: Reader
    files: tuple[Path, ...]

    def load(self) -> LabelArray:
        """Read the label; `DataError` names the file."""
        return self.read(*self.files)

    def size(self) -> tuple[int, int] | None:
        """Width and height, from the file's header; None where the header does not say. `DataError` names the file."""
        return header_size(self.files[0])

    @property
    def shown(self) -> str:
        """Folder and name of the first file."""
        return f"{self.files[0].parent.name}/{self.files[0].name}"


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """One photo and the labels it has; `labels` may be empty."""

    id: str
    photo: Path
    labels: dict[Task, LabelSource]
    origin: dict[Task, str]  # what meta.csv says of a label, such as gt or pseudo; empty without meta.csv


@dataclass(frozen=True, slots=True)
class PhotoDataset:
    """The photos of one split, in the order of its list.

    classes:  names of the label values 0, 1, … of a task, where the dataset or its layout fixes them
    axes:     what x, y and z of the normals mean
    declared: tasks whose classes the dataset itself names, and the file that does
    folders:  where labels of a task lie, in words for messages; the task's own name and a slash where it is not listed
    """

    root: Path
    split: str
    records: tuple[PhotoRecord, ...]
    classes: Mapping[Task, tuple[str, ...]] = field(default_factory=lambda: VOC_LABELS)
    axes: str = NORMALS_AXES
    declared: Mapping[Task, str] = field(default_factory=dict)
    folders: Mapping[Task, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def spread(self, photos: int) -> "PhotoDataset":
        """So many photos, evenly from the list (0, or more than there are: all)."""
        if not 0 < photos < len(self.records):
            return self
        kept = tuple(self.records[i * len(self.records) // photos] for i in range(photos))
        return replace(self, records=kept)

    def count(self, task: Task) -> int:
        """Number of photos that have a label of `task`."""
        return sum(task in record.labels for record in self.records)


@dataclass(frozen=True, slots=True)
class Collected:
    """A dataset as far as it could be found; what is wrong with it, and what was read otherwise than it is written."""

    dataset: PhotoDataset
    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()
