"""What tiles are worth: scores of labelled photos put together to large ones, squeezed as a whole and cut in tiles.

    python -m benchmarks.bench_tiles --data DIR [--side 3] [--photos 180] [--tiles none,auto,3x3]

Labelled photos are small, so side x side of them are laid out as one large photo, each in a cell of 320 px; what is
beside a photo in its cell is grey and counts for nothing. This is no scene that anybody took: it says what becomes of
small things in a large picture, and nothing of objects that are larger than a tile.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.data.layout import open_dataset
from mtlora.data.read import read_label
from mtlora.data.records import PhotoRecord
from mtlora.images.opening import open_photo
from mtlora.metrics import HEADLINE
from mtlora.metrics.meters import build_meter
from mtlora.prediction.adapted import build_adapted
from mtlora.prediction.predict import coarse_logits, map_of, tiling_of
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone
from mtlora.weights.bundled import find_adapter, find_backbone

CELL_PX = 320
GREY = (124, 116, 104)
IGNORED = 255
TASKS = (Task.SEMSEG, Task.HUMAN_PARTS)
Labels = dict[Task, NDArray[np.uint8]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--adapter", default="default")
    parser.add_argument("--side", type=int, default=3)
    parser.add_argument("--photos", type=int, default=180)
    parser.add_argument("--tiles", default="none,auto,3x3")
    options = parser.parse_args()
    adapter = load_adapter(find_adapter(options.adapter))
    model = build_adapted(load_backbone(find_backbone(None)), adapter)
    records = open_dataset(options.data, options.split, TASKS).records[: options.photos]
    ways = options.tiles.split(",")
    meters = {(way, task): build_meter(model.spec.task(task)) for way in ways for task in TASKS}
    for photo, labels in mosaics(records, options.side):
        for way in ways:
            grid = tiling_of(None if way == "none" else way).of(photo.width, photo.height, model.spec.image_size)
            for task, scores in coarse_logits(model, photo, TASKS, grid).items():
                found = map_of(task, scores, model.spec, photo.height, photo.width, grid)
                meters[way, task].update(found, labels[task])
    for (way, task), meter in meters.items():
        print(f"  tiles {way:6} {task:12} {HEADLINE[task]} {meter.scores()[HEADLINE[task]]:.4f}")


def mosaics(records: Sequence[PhotoRecord], side: int) -> Iterator[tuple[Image.Image, Labels]]:
    """Large photos of side x side small ones, and their labels: uint8 [1, H, W]. What is left over is left out."""
    many = side * side
    for begin in range(0, len(records) - many + 1, many):
        size = side * CELL_PX
        photo = Image.new("RGB", (size, size), GREY)
        labels = {task: np.full((1, size, size), IGNORED, np.uint8) for task in TASKS}
        for number, record in enumerate(records[begin : begin + many]):
            top, left = (CELL_PX * at for at in divmod(number, side))
            one = open_photo(record.photo)
            photo.paste(one, (left, top))
            for task in TASKS:
                if task in record.labels:
                    labels[task][0, top : top + one.height, left : left + one.width] = read_label(
                        record.labels[task], task
                    )
        yield photo, labels


if __name__ == "__main__":
    main()
