"""PASCAL-Context in the multi-task layout of the field (ASTMT, MTI-Net, ATRC, MTLoRA): five tasks of 10,103 photos.

    DIR/JPEGImages/ID.jpg                  RGB photo
    DIR/ImageSets/Context/SPLIT.txt        one ID a line
    DIR/semseg/VOC12/ID.png                VOC classes, 255 = ignore; where there is none:
    DIR/semseg/pascal-context/ID.png       the same, from PASCAL-Context
    DIR/human_parts/ID.mat                 PASCAL-Part: objects with their masks and parts
    DIR/normals_distill/ID.png             RGB, (n + 1) * 127.5
    DIR/sal_distill/ID.png                 grey, salient above half
    DIR/pascal-context/trainval/ID.mat     `LabelMap`: one of 459 classes per pixel

Rules of the benchmark: 24 human parts are merged to 6; a photo without an annotated person has no human_parts label
(all ignore); normals count only on classes that the indoor network they come from knows; edges are where `LabelMap`
changes, thinned.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlora.data.boundaries import label_edges
from mtlora.data.findings import Finding
from mtlora.data.lists import PHOTO_SUFFIXES, doubles, files_by_id, read_list
from mtlora.data.pascal_classes import NORMALS_CLASSES, PARTS
from mtlora.data.photos import photo_shape
from mtlora.data.read import read_classes, read_grey
from mtlora.data.read import read_normals as read_rgb
from mtlora.data.records import VOC_LABELS, Collected, LabelSource, PhotoDataset, PhotoRecord
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

NAME = "PASCAL-Context"
SPLITS = "ImageSets/Context"
PHOTO_FOLDER = "JPEGImages"
AXES = "axes of PASCAL-Context's normals_distill; augmentation takes x as right and y as down"
FOLDERS = {
    Task.SEMSEG: "semseg/VOC12/ or semseg/pascal-context/",
    Task.SALIENCY: "sal_distill/",
    Task.NORMALS: "normals_distill/ with pascal-context/trainval/",
    Task.EDGE: "pascal-context/trainval/",
}
PERSON = 15
_OBJECTS = 1  # anno: image name, objects
_CLASS, _PARTS = 1, 3  # an object: class name, class number, mask, parts; a part: name, mask


def collect(root: Path, split: str) -> Collected:
    """See `layout.collect`."""
    photos = files_by_id(root / PHOTO_FOLDER, PHOTO_SUFFIXES)
    listed = read_list(root / SPLITS, split, photos, root / PHOTO_FOLDER)
    context = files_by_id(root / "semseg" / "pascal-context", (".png",))
    semseg = context | files_by_id(root / "semseg" / "VOC12", (".png",))
    parts = files_by_id(root / "human_parts", (".mat",))
    saliency = files_by_id(root / "sal_distill", (".png",))
    normals = files_by_id(root / "normals_distill", (".png",))
    maps = files_by_id(root / "pascal-context" / "trainval", (".mat",))
    records = []
    for name in listed.ids:
        labels = {}
        if name in semseg:
            labels[Task.SEMSEG] = LabelSource(read_classes, (semseg[name],))
        if name in parts:
            labels[Task.HUMAN_PARTS] = LabelSource(read_parts, (parts[name], photos[name]))
        if name in saliency:
            labels[Task.SALIENCY] = LabelSource(read_grey, (saliency[name],))
        if name in normals and name in maps:
            labels[Task.NORMALS] = LabelSource(read_normals, (normals[name], maps[name]))
        if name in maps:
            labels[Task.EDGE] = LabelSource(read_edges, (maps[name],))
        records.append(PhotoRecord(name, photos[name], labels, {}))
    unplaced = tuple(
        f"{name} (no pascal-context/trainval/{name}.mat says where they hold)"
        for name in listed.ids
        if name in normals and name not in maps
    )
    cause = "photos have files in normals_distill/ alone"
    problems = doubles(root / PHOTO_FOLDER, PHOTO_SUFFIXES) + listed.problems
    problems += (Finding(cause, unplaced),) if unplaced else ()
    dataset = PhotoDataset(root, split, tuple(records), VOC_LABELS, AXES, folders=FOLDERS)
    return Collected(dataset, problems, listed.notes)


def read_parts(path: Path, photo: Path) -> NDArray[np.uint8]:
    """The six parts of all people, later people over earlier ones; all ignore where nobody has parts; uint8 [H, W]."""
    width, height = photo_shape(photo).size
    label = np.zeros((height, width), dtype=np.uint8)
    try:
        objects = _load(path)["anno"][0, 0][_OBJECTS]
        for each in objects.ravel():
            if int(each[_CLASS].item()) == PERSON:
                _paint(label, each[_PARTS], path)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} does not have the structure of PASCAL-Part: {error}") from error
    return label if label.any() else np.full_like(label, IGNORE_INDEX)


def read_normals(path: Path, label_map: Path) -> NDArray[np.uint8]:
    """Normals where the class is one that they hold for, 0 elsewhere; uint8 [H, W, 3]."""
    normals, labels = read_rgb(path), read_label_map(label_map)
    if labels.shape != normals.shape[:2]:
        raise DataError(f"{path} is {normals.shape[:2]}, {label_map} is {labels.shape}")
    known = np.isin(labels, list(NORMALS_CLASSES))
    return np.where(known[..., None], normals, 0).astype(np.uint8)


def read_edges(label_map: Path) -> NDArray[np.uint8]:
    """Edges of the label map, 255 on an edge; uint8 [H, W]."""
    return label_edges(read_label_map(label_map)).astype(np.uint8) * 255


def read_label_map(path: Path) -> NDArray[np.int64]:
    """The 459 classes of PASCAL-Context, int64 [H, W]."""
    labels = _load(path).get("LabelMap")
    if labels is None or labels.ndim != 2 or labels.dtype.kind not in "iuf":
        raise DataError(f"{path} has no two-dimensional LabelMap")
    found: NDArray[np.int64] = labels.astype(np.int64)
    return found


def _paint(label: NDArray[np.uint8], parts: Any, path: Path) -> None:
    for part in parts.ravel():
        name, mask = str(part[0].item()), part[1].astype(bool)
        if name not in PARTS:
            raise DataError(f"{path}: no human part is called {name!r}")
        if mask.shape != label.shape:
            raise DataError(f"{path}: the mask of {name} is {mask.shape}, the photo {label.shape}")
        label[mask] = PARTS[name]


def _load(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat  # not needed by anything else, so only this layout asks for it
    except ImportError as error:
        raise DataError("PASCAL-Context's .mat files need scipy: pip install scipy") from error
    try:
        content: dict[str, Any] = loadmat(str(path))
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise DataError(f"{path} cannot be read as a .mat file: {error}") from error
    return content
