"""A smaller copy of a folder dataset, to carry to a machine that trains: `python scripts/small_dataset.py DATA OUT`.

Photos of the training list are written as WebP, 256 px at their longest side; their labels at 128 px, normals at 60 px
with z computed from x and y. Photos of other lists are copied as they are, so that scores stay comparable. A plain
folder of photos is written as photos alone.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PHOTO_SIDE_PX, LABEL_SIDE_PX, NORMALS_SIDE_PX = 256, 128, 60
QUALITY = 72
SALIENCY_STEP = 5
_NEAREST, _SOFT = Image.Resampling.NEAREST, Image.Resampling.BOX
_LABELS = {
    "semseg": (LABEL_SIDE_PX, _NEAREST),
    "human_parts": (LABEL_SIDE_PX, _NEAREST),
    "saliency": (LABEL_SIDE_PX, _SOFT),
    "normals": (NORMALS_SIDE_PX, _NEAREST),
}


def shrunk(image: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    """The image with this longest side; smaller ones stay."""
    scale = min(1.0, side / max(image.size))
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)


def with_z(normals: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Normals, uint8 [H, W, 3], with z from x and y (n_z < 0); zeros stay zeros."""
    x, y = (normals[..., k] / 127.5 - 1 for k in (0, 1))
    z = -np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    full = np.dstack([normals[..., 0], normals[..., 1], np.round((z + 1) * 127.5)]).astype(np.uint8)
    known = np.any(normals, axis=-1, keepdims=True)
    return np.where(known, full, 0).astype(np.uint8)


def write_photo(path: Path, folder: Path) -> None:
    """As WebP into `folder`."""
    with Image.open(path) as image:
        small = shrunk(image.convert("RGB"), PHOTO_SIDE_PX, Image.Resampling.LANCZOS)
    small.save(folder / f"{path.stem}.webp", quality=QUALITY, method=4)


def write_label(path: Path, target: Path) -> None:
    """A label of the task that its folder is named after."""
    side, how = _LABELS[path.parent.name]
    with Image.open(path) as image:
        array = np.asarray(shrunk(Image.fromarray(np.asarray(image)), side, how))
    if path.parent.name == "normals":
        array = with_z(array)
    if path.parent.name == "saliency":
        array = (np.round(array / SALIENCY_STEP) * SALIENCY_STEP).astype(np.uint8)
    Image.fromarray(array).save(target, optimize=True)


def main(source: Path, out: Path) -> None:
    """Write the copy."""
    out.mkdir(parents=True)
    if not (source / "ImageSets").is_dir():
        for path in sorted(source.glob("*.jpg")):
            write_photo(path, out)
        return
    for name in ("JPEGImages", *_LABELS):
        (out / name).mkdir()
    shutil.copytree(source / "ImageSets", out / "ImageSets", copy_function=shutil.copyfile)
    shutil.copyfile(source / "meta.csv", out / "meta.csv")
    train = set((source / "ImageSets" / "train.txt").read_text(encoding="utf-8").split())
    for path in sorted((source / "JPEGImages").iterdir()):
        if path.stem in train:
            write_photo(path, out / "JPEGImages")
        else:
            shutil.copyfile(path, out / "JPEGImages" / path.name)
    for name in _LABELS:
        for path in sorted((source / name).iterdir()):
            if path.stem in train:
                write_label(path, out / name / path.name)
            else:
                shutil.copyfile(path, out / name / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
