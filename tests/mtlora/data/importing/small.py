"""An export of one grey photo, and what became of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.data.importing.importer import ImportOptions, ImportReport, import_export

WIDTH, HEIGHT = 12, 8
ORIENTATION = 0x0112  # of EXIF


def photo(root: Path, name: str = "p.jpg", *, orientation: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A photo of `size` as stored."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path, exif=exif)


def brought(root: Path, **options: Any) -> tuple[ImportReport, Path]:
    """The report, and the dataset."""
    out = root.with_name("out")
    return import_export(root, out, ImportOptions(**options)), out


def labels(root: Path, name: str = "p", **options: Any) -> NDArray[np.uint8]:
    """The label map of a photo."""
    _, out = brought(root, **options)
    return np.asarray(Image.open(out / "semseg" / f"{name}.png"))


def box(left: int, top: int, right: int, bottom: int) -> list[int]:
    """A rectangle as a ring of COCO."""
    return [left, top, right, top, right, bottom, left, bottom]


def area(left: int, top: int, right: int, bottom: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.bool_]:
    """The same, bool [H, W]."""
    inside = np.zeros(shape, np.bool_)
    inside[top:bottom, left:right] = True
    return inside


def coco(root: Path, annotations: Sequence[dict[str, Any]], categories: Sequence[dict[str, Any]], **image: Any) -> None:
    """A COCO document of the photo `p.jpg`."""
    images = [{"id": 1, "file_name": "p.jpg", "width": WIDTH, "height": HEIGHT} | image]
    shapes = [{"id": number, "image_id": 1, "iscrowd": 0} | one for number, one in enumerate(annotations)]
    document = {"images": images, "annotations": shapes, "categories": list(categories)}
    (root / "annotations.json").write_text(json.dumps(document))
