"""Three small datasets with classes of their own, cut out of a large one that has VOC labels, for `bench_training`.

python -m benchmarks.small_sets photos-v1 runs/small
"""

import argparse
import csv
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.vocabulary.tasks import IGNORE_INDEX, VOC_CLASSES

LEAST_SHARE = 0.02
"""A photo shows a class if so much of it is labelled as that class."""


@dataclass(frozen=True, slots=True)
class SmallSet:
    """One dataset: `classes` beside background (name -> VOC names), `train` and `val` (name -> photos that show it).

    A photo counts for the rarest class that it shows; "" counts photos without any. No name is one of VOC's: labels
    whose classes all have VOC names are read by VOC's values.
    """

    name: str
    classes: dict[str, tuple[str, ...]]
    train: dict[str, int]
    val: dict[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of the label values."""
        return ("background", *self.classes)


_ANIMALS = ("bird", "cat", "cow", "dog", "horse", "sheep")
SETS = (
    SmallSet("people-20", {"people": ("person",)}, {"people": 16, "": 4}, {"people": 28, "": 12}),
    SmallSet("animals-60", {"animal": _ANIMALS}, {"animal": 45, "": 15}, {"animal": 20, "": 20}),
    SmallSet(
        "rare-200",
        {"people": ("person",), "birds": ("bird",)},
        {"birds": 10, "people": 130, "": 60},
        {"birds": 5, "people": 20, "": 15},
    ),
)


def write_set(small: SmallSet, source: Path, out: Path) -> Path:
    """Copy photos and write labels in the set's own classes; the folder. The same photos every time."""
    folder = out / small.name
    for part in ("JPEGImages", "semseg", "ImageSets"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    table = _table(small)
    for split, wanted in (("train", small.train), ("val", small.val)):
        chosen = _choose(small, source, split, wanted, table)
        for name in chosen:
            shutil.copyfile(source / "JPEGImages" / f"{name}.jpg", folder / "JPEGImages" / f"{name}.jpg")
            Image.fromarray(table[_label(source, name)]).save(folder / "semseg" / f"{name}.png")
        (folder / "ImageSets" / f"{split}.txt").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return folder


def _table(small: SmallSet) -> NDArray[np.uint8]:
    """uint8 [256], from VOC's values to the set's."""
    table = np.zeros(256, dtype=np.uint8)
    table[IGNORE_INDEX] = IGNORE_INDEX
    for value, parts in enumerate(small.classes.values(), start=1):
        for part in parts:
            table[VOC_CLASSES.index(part)] = value
    return table


def _choose(small: SmallSet, source: Path, split: str, wanted: dict[str, int], table: NDArray[np.uint8]) -> list[str]:
    left = dict(wanted)
    chosen = []
    for name in _shuffled(source, split):
        shown = _shown(small, table[_label(source, name)])
        kind = next((kind for kind in (*reversed(small.names[1:]), "") if _fits(kind, shown)), None)
        if kind is not None and left.get(kind, 0) > 0:
            left[kind] -= 1
            chosen.append(name)
    if any(left.values()):
        raise SystemExit(f"{source} has too few photos for {small.name}, {split}: missing {left}")
    return sorted(chosen)


def _fits(kind: str, shown: Sequence[str]) -> bool:
    return kind in shown if kind else not shown


def _shown(small: SmallSet, label: NDArray[np.uint8]) -> list[str]:
    return [name for value, name in enumerate(small.names) if value and (label == value).mean() > LEAST_SHARE]


def _shuffled(source: Path, split: str) -> Iterator[str]:
    """Photos that people labelled, at least in part, before all others; in a random order that never changes."""
    names = (source / "ImageSets" / f"{split}.txt").read_text(encoding="utf-8").split()
    with (source / "meta.csv").open(newline="", encoding="utf-8") as file:
        origin = {row["id"]: row["semseg"] for row in csv.DictReader(file)}
    mixed = [names[i] for i in np.random.default_rng(20261201).permutation(len(names))]
    yield from sorted(mixed, key=lambda name: origin.get(name) == "pseudo")


def _label(source: Path, name: str) -> NDArray[np.uint8]:
    with Image.open(source / "semseg" / f"{name}.png") as image:
        return np.asarray(image, dtype=np.uint8)


def main() -> None:
    """Write all three below a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="dataset in the folder layout, semseg in VOC's classes")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    for small in SETS:
        print(f"{write_set(small, given.source, given.out)}: {', '.join(small.names)}")


if __name__ == "__main__":
    main()
