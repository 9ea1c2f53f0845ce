"""Pictures for the documentation: each photo beside its maps, with names and a legend.

python scripts/gallery.py docs/samples/*.jpg --adapter default --out docs/images
"""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlora import build_adapted, load_adapter, load_backbone
from mtlora.images.opening import open_photo
from mtlora.maps.map_png import encode_map
from mtlora.prediction.adapted import Adapted
from mtlora.vocabulary.spec import TaskSpec
from mtlora.weights.bundled import bundled_backbone, find_adapter

CELL_HEIGHT_PX = 260
CAPTION_PX = 44
GAP_PX = 8
INK, PAPER, GREY = (20, 20, 20), (255, 255, 255), (120, 120, 120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--adapter", default="default")
    parser.add_argument("--backbone", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    backbone = load_backbone(options.backbone or bundled_backbone())
    model = build_adapted(backbone, load_adapter(find_adapter(options.adapter)))
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.photos:
        suffix = "" if options.adapter == "default" else f"-{Path(options.adapter).stem}"
        target = options.out / f"{path.stem}{suffix}.jpg"
        row(open_photo(path), model).save(target, quality=88)


def row(photo: Image.Image, model: Adapted) -> Image.Image:
    """The photo and all its maps side by side."""
    from mtlora.prediction.predict import predict

    maps = predict(model, photo)
    cells: list[tuple[Image.Image, str, list[Any]]] = [(photo, "photo", [])]
    for task, values in maps.items():
        spec = model.spec.task(task)
        shown = Image.open(io.BytesIO(encode_map(values, spec).png)).convert("RGB")
        if spec.classes:
            foreground = Image.fromarray(np.where(values > 0, 170, 0).astype(np.uint8))  # class 0 stays the photo
            shown = Image.composite(shown, photo, foreground)
        cells.append((shown, task.value.replace("_", " "), legend(values, spec)))
    width = round(photo.width * CELL_HEIGHT_PX / photo.height)
    size = (len(cells) * (width + GAP_PX) - GAP_PX, CELL_HEIGHT_PX + CAPTION_PX)
    canvas = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for column, (image, title, entries) in enumerate(cells):
        left = column * (width + GAP_PX)
        canvas.paste(image.resize((width, CELL_HEIGHT_PX), Image.Resampling.LANCZOS), (left, 0))
        draw.text((left, CELL_HEIGHT_PX + 4), title, INK, font)
        x = left
        for name, color in entries:
            if x + 14 + draw.textlength(name, font) > left + width:
                break
            draw.rectangle((x, CELL_HEIGHT_PX + 27, x + 9, CELL_HEIGHT_PX + 36), color, GREY)
            draw.text((x + 13, CELL_HEIGHT_PX + 23), name, INK, font)
            x += round(20 + draw.textlength(name, font))
    return canvas


def legend(values: np.ndarray, spec: TaskSpec) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and colours of the classes present, largest first, background left out."""
    if not spec.classes:
        return []
    counts = np.bincount(values.ravel(), minlength=spec.outputs)
    order = [index for index in np.argsort(-counts) if counts[index] and spec.classes[index].name != "background"]
    return [(spec.classes[index].name, spec.classes[index].color) for index in order]


if __name__ == "__main__":
    main()
