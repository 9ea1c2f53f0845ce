"""Exports as labelling tools write them, made of photos and class maps by the formats' descriptions.

Polygons are given; masks are class maps. Nothing here is shared with the code that reads exports.
"""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

ClassMap = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scene:
    """A photo, uint8 [H, W, 3], and its class map, uint8 [H, W]; `name` without an ending."""

    name: str
    photo: NDArray[np.uint8]
    labels: ClassMap

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.labels.shape[1], self.labels.shape[0]


def scenes(count: int = 3, side: tuple[int, int] = (60, 48)) -> list[Scene]:
    """Photos with a disc (1) that has a hole, and over it a square (2)."""
    chance = np.random.default_rng(7)
    width, height = side
    y, x = np.mgrid[:height, :width]
    made = []
    for number in range(count):
        labels = np.zeros((height, width), np.uint8)
        left, top = chance.integers(15, 30, 2)
        away = np.hypot(x - left, y - top)
        labels[(away < 13) & (away > 4)] = 1
        at = int(chance.integers(5, 20))
        labels[at : at + 12, at + 8 : at + 24] = 2
        photo = np.array([[90, 110, 80], [220, 70, 60], [70, 90, 220]], np.uint8)[labels]
        made.append(Scene(f"IMG {number:03}", photo, labels))
    return made


def save_photo(scene: Scene, folder: Path, ending: str = ".jpg") -> str:
    """Write the photo; the file's name."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.photo).save(folder / f"{scene.name}{ending}")
    return f"{scene.name}{ending}"


def write_coco(root: Path, made: Sequence[Scene], names: Sequence[str], *, packed: bool) -> None:
    """COCO with run lengths; ids of categories have gaps, photos lie in a folder."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, scene in enumerate(made, 10):
        file = save_photo(scene, root / "images")
        images.append({"id": number, "file_name": file, "width": scene.size[0], "height": scene.size[1]})
        for value in range(1, len(names) + 1):
            inside = (scene.labels == value).astype(np.uint8)
            runs: Any = coco_mask.encode(np.asfortranarray(inside))
            runs["counts"] = runs["counts"].decode()
            if not packed:
                flat = inside.ravel(order="F")
                edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
                runs["counts"] = np.diff(np.concatenate([[0], edges])).tolist()
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": 5 * value,
                    "segmentation": runs,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 5 * value, "name": name, "supercategory": ""} for value, name in enumerate(names, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories[::-1]}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(document))


def write_labelme(root: Path, made: Sequence[Scene], names: Sequence[str]) -> None:
    """LabelMe with shapes of type mask."""
    for scene in made:
        file = save_photo(scene, root)
        shapes = []
        for value, name in enumerate(names, 1):
            rows, columns = np.nonzero(scene.labels == value)
            top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
            crop = (scene.labels == value)[top : bottom + 1, left : right + 1]
            buffer = io.BytesIO()
            Image.fromarray(crop).save(buffer, "PNG")
            shapes.append(
                {
                    "label": name,
                    "points": [[int(left), int(top)], [int(right), int(bottom)]],
                    "shape_type": "mask",
                    "mask": base64.b64encode(buffer.getvalue()).decode(),
                    "flags": {},
                }
            )
        width, height = scene.size
        document: dict[str, object] = {"version": "5.4.1", "shapes": shapes, "imagePath": f"..\\photos\\{file}"}
        document |= {"imageData": None, "imageHeight": height, "imageWidth": width}
        (root / f"{scene.name}.json").write_text(json.dumps(document))


def write_cvat(root: Path, made: Sequence[Scene], names: Sequence[str]) -> None:
    """CVAT's XML for images, with masks."""
    labels = "".join(f"<label><name>{name}</name></label>" for name in names)
    text = (
        f"<?xml version='1.0'?><annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    )
    for number, scene in enumerate(made):
        file = save_photo(scene, root / "images")
        width, height = scene.size
        text += f'<image id="{number}" name="{file}" width="{width}" height="{height}">'
        for value, name in enumerate(names, 1):
            rows, columns = np.nonzero(scene.labels == value)
            top, left = rows.min(), columns.min()
            crop = (scene.labels == value)[top : rows.max() + 1, left : columns.max() + 1]
            runs, before = [0], False
            for pixel in crop.ravel().tolist():
                if pixel != before:
                    runs.append(0)
                    before = pixel
                runs[-1] += 1
            text += (
                f'<mask label="{name}" rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" '
                f'width="{crop.shape[1]}" height="{crop.shape[0]}" z_order="{value}"/>'
            )
        text += "</image>"
    (root / "annotations.xml").write_text(text + "</annotations>")


def write_label_studio(root: Path, made: Sequence[Scene], names: Sequence[str]) -> None:
    """Label Studio's JSON with brush labels; photos were uploaded, so their names have a prefix there."""
    tasks = []
    for number, scene in enumerate(made, 1):
        file = save_photo(scene, root)
        width, height = scene.size
        results = [
            {
                "id": f"r{value}",
                "type": "brushlabels",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {"format": "rle", "rle": plain_brush(scene.labels == value), "brushlabels": [name]},
            }
            for value, name in enumerate(names, 1)
        ]
        upload = f"/data/upload/3/0a1b2c3d-{file}".replace(" ", "%20")
        annotations = [{"id": 1, "was_cancelled": True, "result": []}, {"id": 2, "result": results}]
        tasks.append({"id": number, "data": {"image": upload}, "annotations": annotations})
    tasks.append({"id": 99, "data": {"image": "/data/upload/3/not-there.jpg"}, "annotations": []})
    (root / "project-3.json").write_text(json.dumps(tasks))


def plain_brush(inside: NDArray[np.bool_]) -> list[int]:
    """A mask in the brush format without any run: literal pieces only, which the format allows."""
    values = np.repeat(np.where(inside.ravel(), 255, 0), 4).tolist()
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for begin in range(0, len(values), 256):
        piece = values[begin : begin + 256]
        bits += "0" + "10" + f"{len(piece) - 1:08b}" + "".join(f"{value:08b}" for value in piece)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def write_voc(root: Path, made: Sequence[Scene], colours: dict[str, tuple[int, int, int]], *, palette: bool) -> None:
    """VOC's folders with a `labelmap.txt` as CVAT writes it; masks with a palette in another order, or in colours."""
    (root / "SegmentationClass").mkdir(parents=True)
    table = np.array(list(colours.values()), np.uint8)
    for scene in made:
        save_photo(scene, root / "JPEGImages")
        image = Image.fromarray(table[scene.labels])
        if palette:
            image = Image.fromarray((len(table) - 1 - scene.labels).astype(np.uint8))
            image.putpalette(table[::-1].ravel().tolist())
        image.save(root / "SegmentationClass" / f"{scene.name}.png")
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in colours.items()]
    (root / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *reversed(lines)]))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{scene.name}\n" for scene in made[:-1]))
    (lists / "val.txt").write_text(f"{made[-1].name}\n")
