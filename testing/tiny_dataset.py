"""A dataset of a few drawn photos in the documented layout."""

from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 6
SIZE = (48, 40)  # width, height


def write_dataset(root: Path, *, count: int = COUNT, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Photos of a bright box on a dark ground: the box is a person's head, salient, and faces the camera."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "ImageSets", "semseg", "human_parts", "saliency", "normals"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    width, height = SIZE
    names = [f"photo{i}" for i in range(count)]
    for name in names:
        x, y = (int(v) for v in rng.integers(4, 20, 2))
        box = np.zeros((height, width), dtype=bool)
        box[y : y + 16, x : x + 16] = True
        photo = np.where(box[..., None], (200, 180, 160), (20, 40, 60)) + rng.integers(0, 20, (height, width, 3))
        Image.fromarray(photo.astype(np.uint8)).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        _save(root / "semseg" / f"{name}.png", np.where(box, 15, 0))
        _save(root / "human_parts" / f"{name}.png", np.where(box, 1, 0))
        _save(root / "saliency" / f"{name}.png", np.where(box, 255, 0))
        _save(root / "normals" / f"{name}.png", np.where(box[..., None], (128, 128, 0), (128, 0, 128)))
    for split in splits:
        (root / "ImageSets" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def _save(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array.astype(np.uint8)).save(path)
