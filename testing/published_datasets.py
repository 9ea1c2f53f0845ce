"""Tiny datasets in exactly the published layouts of PASCAL-Context and NYUD-MT; the real ones cannot be had here."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (24, 16)  # width, height
HEIGHT, WIDTH = SIZE[1], SIZE[0]
SKY, WALL, PERSON = 360, 440, 284  # classes of PASCAL-Context
PASCAL_IDS = ("2008_000001", "2008_000002", "2008_000003")
"""A person and sky (label in VOC12), a wall (label in pascal-context only), and again the wall."""


def write_pascal(root: Path) -> Path:
    """Photo 1: left half a person with two parts, right half sky. Photos 2 and 3: a wall, and a bus, no person."""
    for name in ("JPEGImages", "ImageSets/Context", "semseg/VOC12", "semseg/pascal-context", "human_parts"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("normals_distill", "sal_distill", "pascal-context/trainval"):
        (root / name).mkdir(parents=True, exist_ok=True)
    left = np.zeros((HEIGHT, WIDTH), dtype=bool)
    left[:, : WIDTH // 2] = True
    for number, name in enumerate(PASCAL_IDS):
        person = number == 0
        _save(root / "JPEGImages" / f"{name}.jpg", np.where(left[..., None], (220, 160, 120), (60, 90, 200)))
        _palette(root / "semseg" / ("VOC12" if person else "pascal-context") / f"{name}.png", np.where(left, 15, 0))
        _save(root / "sal_distill" / f"{name}.png", np.where(left, 200, 90))
        _save(root / "normals_distill" / f"{name}.png", np.full((HEIGHT, WIDTH, 3), (128, 128, 0)))
        labels = np.where(left, PERSON, SKY) if person else np.full(left.shape, WALL)
        savemat(root / "pascal-context/trainval" / f"{name}.mat", {"LabelMap": labels.astype(np.uint16)})
        parts = [("head", _rows(left, 0, 4)), ("rfoot", _rows(left, 12, 16))] if person else []
        objects = [("person" if person else "bus", 15 if person else 6, left, parts)]
        savemat(root / "human_parts" / f"{name}.mat", {"anno": annotation(name, objects)})
    for split, ids in {"train": PASCAL_IDS[:2], "val": PASCAL_IDS[2:]}.items():
        (root / "ImageSets" / "Context" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def annotation(name: str, objects: list[tuple[str, int, np.ndarray, list[tuple[str, np.ndarray]]]]) -> np.ndarray:
    """PASCAL-Part's structure: anno(imname, objects(class, class_ind, mask, parts(part_name, mask)))."""
    object_type = [(field, object) for field in ("class", "class_ind", "mask", "parts")]
    rows = np.empty((1, len(objects)), dtype=object_type)
    for column, (label, index, mask, parts) in enumerate(objects):
        parts_rows = np.empty((1, len(parts)), dtype=[("part_name", object), ("mask", object)])
        for each, part in enumerate(parts):
            parts_rows[0, each] = (part[0], part[1].astype(np.uint8))
        rows[0, column] = (label, index, mask.astype(np.uint8), parts_rows if parts else np.empty((0, 0)))
    anno = np.empty((1, 1), dtype=[("imname", object), ("objects", object)])
    anno[0, 0] = (name, rows)
    return anno


NYUD_IDS = ("0001", "0002")


def write_nyud(root: Path) -> Path:
    """A wall on the left, a floor on the right, unlabelled below."""
    for name in ("images", "gt_sets", "segmentation", "normals", "depth", "edge"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in NYUD_IDS:
        _save(root / "images" / f"{name}.jpg", np.full((HEIGHT, WIDTH, 3), 100))
        classes = np.ones((HEIGHT, WIDTH))
        classes[:, WIDTH // 2 :] = 2
        classes[-2:] = 0
        _save(root / "segmentation" / f"{name}.png", classes)
        normals = np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)
        normals[:, : WIDTH // 2] = (0, 0, -1)
        normals[:, WIDTH // 2 :] = (0, -1, 0)
        normals[0] = 0
        np.save(root / "normals" / f"{name}.npy", normals)
        depth = np.full((HEIGHT, WIDTH), 2.5, dtype=np.float32)
        depth[0, 0] = 0
        np.save(root / "depth" / f"{name}.npy", depth)
        edge = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
        edge[:, WIDTH // 2] = 1
        np.save(root / "edge" / f"{name}.npy", edge)
    for split, ids in {"train": NYUD_IDS[:1], "val": NYUD_IDS[1:]}.items():
        (root / "gt_sets" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def _rows(mask: np.ndarray, start: int, end: int) -> np.ndarray:
    part = np.zeros_like(mask)
    part[start:end] = mask[start:end]
    return part


def _save(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array.astype(np.uint8)).save(path)


def _palette(path: Path, array: np.ndarray) -> None:
    image = Image.fromarray(array.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0] * 20)
    image.save(path)
