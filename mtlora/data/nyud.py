"""NYUD-v2 in the multi-task layout of the field: four tasks of 1,449 indoor photos.

    DIR/images/ID.jpg          RGB photo
    DIR/gt_sets/SPLIT.txt      one ID a line
    DIR/segmentation/ID.png    0 = unlabelled, 1..40 = NYU's 40 classes
    DIR/normals/ID.npy         float [H, W, 3], unit length, all 0 = ignore
    DIR/depth/ID.npy           float [H, W], metres, 0 = ignore
    DIR/edge/ID.npy            float [H, W], 0 or 1

There is no background class: a set has 40 outputs, and what is unlabelled is ignored.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlora.data.lists import PHOTO_SUFFIXES, doubles, files_by_id, read_list
from mtlora.data.read import FARTHEST_MM, MM_PER_M
from mtlora.data.read import read_classes as read_indices
from mtlora.data.records import Collected, LabelSource, PhotoDataset, PhotoRecord, Reader
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, NYU_CLASSES, Task

NAME = "NYUD-MT"
SPLITS = "gt_sets"
PHOTO_FOLDER = "images"
AXES = "camera axes of NYUD-MT's normals; augmentation takes x as right and y as down"
FOLDERS = {Task.SEMSEG: "segmentation/"}
_FLOAT_KINDS = "fiub"
_TOLERANCE = 0.01  # of what must lie in a range, and was rounded


def collect(root: Path, split: str) -> Collected:
    """See `layout.collect`."""
    photos = files_by_id(root / PHOTO_FOLDER, PHOTO_SUFFIXES)
    listed = read_list(root / SPLITS, split, photos, root / PHOTO_FOLDER)
    sources: dict[Task, tuple[Reader, dict[str, Path]]] = {
        Task.SEMSEG: (read_classes, files_by_id(root / "segmentation", (".png",))),
        Task.NORMALS: (read_normals, files_by_id(root / "normals", (".npy",))),
        Task.DEPTH: (read_depth, files_by_id(root / "depth", (".npy",))),
        Task.EDGE: (read_edges, files_by_id(root / "edge", (".npy",))),
    }
    records = tuple(
        PhotoRecord(
            name,
            photos[name],
            {task: LabelSource(read, (found[name],)) for task, (read, found) in sources.items() if name in found},
            {},
        )
        for name in listed.ids
    )
    dataset = PhotoDataset(root, split, records, {Task.SEMSEG: NYU_CLASSES}, AXES, folders=FOLDERS)
    return Collected(dataset, doubles(root / PHOTO_FOLDER, PHOTO_SUFFIXES) + listed.problems, listed.notes)


def read_classes(path: Path) -> NDArray[np.uint8]:
    """Classes 1..40 as 0..39, unlabelled as ignore; uint8 [H, W]."""
    stored = read_indices(path)
    if stored.max(initial=0) > len(NYU_CLASSES):
        raise DataError(f"{path}: class {stored.max()}, expected 0..{len(NYU_CLASSES)}")
    return np.where(stored == 0, IGNORE_INDEX, stored - 1).astype(np.uint8)


def read_normals(path: Path) -> NDArray[np.uint8]:
    """Unit vectors in 255 steps an axis, at most 0.4 degrees off; what is not finite is unknown; uint8 [H, W, 3]."""
    values = _load(path, 3)
    values[~np.isfinite(values).all(axis=-1)] = 0
    if np.abs(values).max(initial=0) > 1 + _TOLERANCE:
        raise DataError(f"{path}: normals must lie in -1..1, got {np.abs(values).max():.3g}")
    valid = values.any(axis=-1, keepdims=True)
    return np.where(valid, ((values + 1) * 127.5).round().clip(1, 255), 0).astype(np.uint8)


def read_depth(path: Path) -> NDArray[np.uint16]:
    """Metres as millimetres; what is not finite is unknown, what is farther than can be said has the largest value.

    uint16 [H, W]
    """
    values = _load(path, 1)
    values[~np.isfinite(values)] = 0
    return (values * MM_PER_M).round().clip(0, FARTHEST_MM).astype(np.uint16)


def read_edges(path: Path) -> NDArray[np.uint8]:
    """Edges 0..1 as 255 * p; uint8 [H, W]."""
    values = _load(path, 1)
    if not (values.min(initial=0) >= -_TOLERANCE and values.max(initial=0) <= 1 + _TOLERANCE):
        raise DataError(f"{path}: edges must lie in 0..1, got {values.min():.3g}..{values.max():.3g}")
    return (values * 255).round().clip(0, 255).astype(np.uint8)


def _load(path: Path, channels: int) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array: {error}") from error
    if channels == 1 and array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    wanted = array.ndim == 2 if channels == 1 else array.ndim == 3 and array.shape[2] == channels
    if not wanted or array.dtype.kind not in _FLOAT_KINDS:
        shape = "[H, W]" if channels == 1 else f"[H, W, {channels}]"
        raise DataError(f"{path}: expected numbers {shape}, got {array.dtype} {array.shape}")
    values: NDArray[np.float32] = array.astype(np.float32)
    return values
