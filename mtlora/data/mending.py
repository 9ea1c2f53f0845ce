"""What can be mended about a folder dataset without looking at it: missing lists, labels that lie on their side."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.data import folder
from mtlora.data.agreement import cannot_be_told, disagreement
from mtlora.data.headers import open_image, packed_grey_bits
from mtlora.data.lists import LIST_SUFFIX, PHOTO_SUFFIXES, files_by_id, split_names
from mtlora.data.photos import PhotoShape, photo_shape
from mtlora.data.read import IGNORE_VALUE, PEAK, read_classes
from mtlora.images.photo import TURNS
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task

_VECTORS: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, -1), (1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, 1), (-1, 0)),
}
"""For each orientation of the EXIF standard what makes x and y of the stored picture those of the upright one."""


def write_splits(root: Path, val_share: float, seed: int) -> dict[str, int]:
    """Write lists `train` and `val` of the photos that have labels, at random; how many each has.

    `DataError` where there are lists already, or fewer than two labelled photos.
    """
    if not 0 < val_share < 1:
        raise DataError(f"the share of val must lie between 0 and 1, got {val_share:g}")
    target = root / folder.SPLITS
    if split_names(target):
        raise DataError(f"{target} has lists already: {', '.join(split_names(target))}; remove them first")
    photos = files_by_id(root / folder.PHOTO_FOLDER, PHOTO_SUFFIXES)
    labelled = set().union(*folder.label_files(root).values())
    names = sorted(photos.keys() & labelled)
    if len(names) < 2:
        tasks = ", ".join(f"{task.value}/" for task in Task)
        raise DataError(
            f"{root} has {len(names)} photos with labels, two are needed: photos in {folder.PHOTO_FOLDER}/, labels "
            f"of the same names in {tasks}"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    val = min(len(names) - 1, max(1, round(len(names) * val_share)))
    lists = {"train": order[val:], "val": order[:val]}
    target.mkdir(exist_ok=True)
    for split, chosen in lists.items():
        lines = sorted(names[index] for index in chosen)
        (target / f"{split}{LIST_SUFFIX}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {split: len(chosen) for split, chosen in lists.items()}


def write_upright(root: Path, out: Path, *, untold: bool) -> dict[str, int]:
    """Write a copy of a dataset whose labels lie as its photos are shown; per task how many were turned.

    Turned are labels that fit their photo only as it is stored; with `untold` also those of square, mirrored and
    upside down photos, whose size does not tell. Photos stay as they are: whoever reads them turns them.
    """
    if not (root / folder.PHOTO_FOLDER).is_dir():
        raise DataError(f"{root} has no {folder.PHOTO_FOLDER}/: only {folder.NAME} can be turned")
    if out.exists():
        raise DataError(f"{out} exists already: name a folder that does not")
    photos = files_by_id(root / folder.PHOTO_FOLDER, PHOTO_SUFFIXES)
    labels = {task: found for task, found in folder.label_files(root).items() if found}
    shapes = {name: photo_shape(path) for name, path in photos.items()}
    shutil.copytree(root, out)
    turned: dict[str, int] = {}
    for task, found in labels.items():
        turned[task.value] = 0
        for name, path in found.items():
            if name in shapes and _is_lying(path, shapes[name], untold=untold):
                _turn(path, out / path.relative_to(root), task, shapes[name].orientation)
                turned[task.value] += 1
    return turned


def _is_lying(path: Path, shape: PhotoShape, *, untold: bool) -> bool:
    if shape.orientation not in TURNS:
        return False
    with open_image(path, decode=False) as label:
        size = label.size
    if cannot_be_told(size, shape):
        return untold
    upright, stored = (disagreement(size, PhotoShape(*each))[0] == "" for each in (shape.size, shape.stored))
    return stored and not upright


def _turn(path: Path, target: Path, task: Task, orientation: int) -> None:
    with Image.open(path) as label:
        upright = label.transpose(TURNS[orientation])
    if task in IGNORE_VALUE and packed_grey_bits(path):  # decoders stretch their values
        upright = Image.fromarray(read_classes(path)).transpose(TURNS[orientation])
    if task is Task.NORMALS:
        upright = Image.fromarray(turned_vectors(np.asarray(upright), orientation))
    upright.save(target)


def turned_vectors(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Normals, uint8 [H, W, 3], with x and y as the upright picture has them; zeros stay zeros."""
    found = stored.copy()
    for axis, (of_x, of_y) in enumerate(_VECTORS[orientation]):
        source = stored[..., 0 if of_x else 1]
        found[..., axis] = source if of_x + of_y > 0 else PEAK - source
    return np.where(stored.any(axis=-1, keepdims=True), found, 0).astype(np.uint8)
