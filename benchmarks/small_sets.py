"""Three small datasets with classes of their own, cut out of a large one that has VOC labels, for `bench_training`.

python -m benchmarks.small_sets photos-v1 runs/small
"""

import argparse
import csv
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.vocabulary.tasks import IGNORE_INDEX, VOC_CLASSES

Label = NDArray[np.uint8]
"""uint8 [H, W]: values of classes, `IGNORE_INDEX` where nothing is known."""

LEAST_SHARE = 0.02
"""A photo shows a class if so much of it is labelled as that class."""


@dataclass(frozen=True, slots=True)
class Source:
    """The large dataset: folder layout, `meta.csv` with the columns id, source and semseg ("pseudo": by a teacher)."""

    folder: Path

    def names(self) -> list[str]:
        """All photos that have a list; those that people labelled, at least in part, first; else in a fixed order."""
        lists = [(self.folder / "ImageSets" / f"{split}.txt").read_text(encoding="utf-8") for split in ("train", "val")]
        names = "\n".join(lists).split()
        mixed = [names[i] for i in np.random.default_rng(20261201).permutation(len(names))]
        origin = self.column("semseg")
        return sorted(mixed, key=lambda name: origin[name] == "pseudo")

    def column(self, name: str) -> dict[str, str]:
        """A column of `meta.csv`, by photo."""
        with (self.folder / "meta.csv").open(newline="", encoding="utf-8") as file:
            return {row["id"]: row[name] for row in csv.DictReader(file)}

    def photo(self, name: str) -> Path:
        """The file of a photo."""
        return self.folder / "JPEGImages" / f"{name}.jpg"

    def grey(self, name: str, size: tuple[int, int]) -> Label:
        """Brightness of a photo at a size (width, height)."""
        with Image.open(self.photo(name)) as image:
            return np.asarray(image.convert("L").resize(size))

    def label(self, task: str, name: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """A label as it is stored; size (width, height): brought to it by nearest neighbour."""
        with Image.open(self.folder / task / f"{name}.png") as image:
            return np.asarray(image if size is None else image.resize(size, Image.Resampling.NEAREST))


@dataclass(frozen=True, slots=True)
class SmallSet:
    """One dataset: its classes, how many photos of which kind each split has, and where its labels come from.

    A photo is of the kind of the rarest (last) class that it shows; "" are photos without any. No name is one of
    VOC's: labels whose classes all have VOC names are read by VOC's values.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Mapping[str, int]]  # test first: it gets the labels of people
    labels: Callable[[Source], Iterator[tuple[str, Label]]]


def _voc(*groups: tuple[str, ...]) -> Callable[[Source], Iterator[tuple[str, Label]]]:
    """Labels in which each group of VOC classes is one class, all other classes being background."""
    table = np.zeros(256, dtype=np.uint8)
    table[IGNORE_INDEX] = IGNORE_INDEX
    for value, group in enumerate(groups, start=1):
        table[[VOC_CLASSES.index(part) for part in group]] = value

    def labels(source: Source) -> Iterator[tuple[str, Label]]:
        for name in source.names():
            yield name, table[source.label("semseg", name)]

    return labels


_CUT_OUTS = ("caltech", "imagenet")  # often products on white: no sky, though nothing is there either


def _sky_and_ground(source: Source) -> Iterator[tuple[str, Label]]:
    """Rough labels of sky and ground in outdoor photos, from the normals and the VOC classes.

    Normals have no value where nothing is near: sky is what has none from the upper edge down, if it is bright. Ground
    looks upwards and is in the lower part. Margins of both are left open.
    """
    origin = source.column("source")
    for name in source.names():
        if not origin[name].startswith(_CUT_OUTS):
            label, brightness = _rough(source, name)
            shares = [(label == value).mean() for value in range(3)]
            if shares[1] > 0.06 and shares[2] > 0.08 and (label[0] == 1).mean() > 0.5 and brightness > 120:
                yield name, label


def _rough(source: Source, name: str) -> tuple[Label, float]:
    """Label at the size of the normals, and the mean brightness of its sky, 0..255."""
    raw = source.label("normals", name)
    size = (raw.shape[1], raw.shape[0])
    known = (raw > 0).any(axis=-1)
    normal = raw / 127.5 - 1
    upward = -normal[..., 1] / np.linalg.norm(normal, axis=-1)
    classes = source.label("semseg", name, size)
    sky = np.cumprod(~known, axis=0).astype(bool)
    inner = sky.copy()
    inner[:-2] &= sky[2:]
    inner[-2:] = False
    below = (np.arange(len(raw)) > 0.4 * len(raw))[:, None]
    label = np.full(known.shape, IGNORE_INDEX, dtype=np.uint8)
    label[(known & (upward < 0.5)) | ((classes > 0) & (classes < IGNORE_INDEX) & ~sky)] = 0
    label[inner] = 1
    label[known & below & (upward > 0.75) & (classes == 0)] = 2
    bright = source.grey(name, size)[inner]
    return label, float(bright.mean()) if bright.size else 0.0


SETS = (
    SmallSet(
        "people-20",
        ("background", "people"),
        {"test": {"people": 28, "": 12}, "val": {"people": 14, "": 6}, "train": {"people": 16, "": 4}},
        _voc(("person",)),
    ),
    SmallSet(
        "sky-60",
        ("other", "sky", "ground"),
        {"test": {"ground": 40}, "val": {"ground": 20}, "train": {"ground": 60}},
        _sky_and_ground,
    ),
    SmallSet(
        "birds-200",
        ("background", "people", "birds"),
        {
            "test": {"birds": 10, "people": 18, "": 12},
            "val": {"birds": 4, "people": 10, "": 6},
            "train": {"birds": 10, "people": 130, "": 60},
        },
        _voc(("person",), ("bird",)),
    ),
)


def write_set(small: SmallSet, source: Source, out: Path) -> Path:
    """Copy photos and write labels in the set's own classes; the folder. The same photos every time; done once."""
    folder = out / small.name
    if (folder / "ImageSets").is_dir():
        return folder
    for part in ("JPEGImages", "semseg"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    left = {split: Counter(kinds) for split, kinds in small.splits.items()}
    chosen: dict[str, list[str]] = {split: [] for split in small.splits}
    for name, label in small.labels(source):
        kind = _kind(small, label)
        split = next((split for split, kinds in left.items() if kinds[kind]), None)
        if split is not None:
            left[split][kind] -= 1
            chosen[split].append(name)
            shutil.copyfile(source.photo(name), folder / "JPEGImages" / f"{name}.jpg")
            _write_label(folder / "semseg" / f"{name}.png", label, source.photo(name))
        if not any(kinds.total() for kinds in left.values()):
            break
    else:
        raise SystemExit(f"{source.folder} has too few photos for {small.name}: missing {left}")
    (folder / "ImageSets").mkdir()
    for split, names in chosen.items():
        (folder / "ImageSets" / f"{split}.txt").write_text("\n".join(sorted(names)) + "\n", encoding="utf-8")
    return folder


def _kind(small: SmallSet, label: Label) -> str:
    shown = (name for value, name in reversed([*enumerate(small.classes)][1:]) if (label == value).mean() > LEAST_SHARE)
    return next(shown, "")


def _write_label(path: Path, label: Label, photo: Path) -> None:
    with Image.open(photo) as image:
        size = image.size
    Image.fromarray(label).resize(size, Image.Resampling.NEAREST).save(path)


def write_sets(source: Source, out: Path, wanted: Iterable[str] = ()) -> dict[str, Path]:
    """Write the sets of these names below a folder, or all; set -> folder."""
    return {small.name: write_set(small, source, out) for small in SETS if not wanted or small.name in wanted}


def main() -> None:
    """Write all three below a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="dataset in the folder layout, semseg in VOC's classes, and meta.csv")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    for name, folder in write_sets(Source(given.source), given.out).items():
        print(f"{folder}: {name}")


if __name__ == "__main__":
    main()
