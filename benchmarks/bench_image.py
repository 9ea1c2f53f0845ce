"""What the image side of an answer costs: photo to pixels to the model's square; logits to maps to PNG. One thread.

    python -m benchmarks.bench_image [--width 1280 --height 960] [--backbone tiny448] [--tiles 3x3]

The set `default` that comes with the server, or a random one of a Swin-T at 448 px; maps at the photo's size.
Milliseconds, medians and the least. `figure edges.TASK N`: a PNG whose edges follow the scores over one of the model's
map enlarged.
"""

import argparse
import tempfile
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from app.answers.negotiation import AnswerFormat
from app.answers.plan import RenderPlan
from app.answers.render import Share, render
from app.core.decoded_photo import Decoded
from benchmarks.harness import OtherLoad, interleaved, median_ms
from benchmarks.sets import TINY448, make_weights, write_photo
from mtlora.images.opening import open_photo
from mtlora.maps.map_png import Painting, encode, encode_normals
from mtlora.maps.postprocessing import PhotoMap, decode_coarse, photo_map
from mtlora.ops.preprocess import preprocess, resize
from mtlora.prediction.adapted import build_adapted
from mtlora.prediction.predict import coarse_logits, tiling_of
from mtlora.vocabulary.options import FormKind
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--backbone", choices=["bundled", TINY448], default="bundled")
    parser.add_argument("--tiles", help="ROWSxCOLUMNS: the scores of so many overlapping tiles")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        weights = make_weights(Path(folder), 1, options.backbone)
        adapter = load_adapter(weights.folder / "default.safetensors")
        model = build_adapted(load_backbone(weights.backbone), adapter, FormKind.AUTO)
        data = write_photo(Path(folder) / "photo.jpg", (options.width, options.height)).read_bytes()
    spec = adapter.manifest.spec
    photo = open_photo(data)
    grid = tiling_of(options.tiles).of(photo.width, photo.height, spec.image_size)
    logits, side = coarse_logits(model, photo, spec.task_names, grid), grid.covered_px(spec.image_size)
    decoded = Decoded(preprocess(photo, spec), photo.width, photo.height)
    cases: dict[str, Callable[[], object]] = {
        "JPEG to pixels": lambda: open_photo(data),
        "resize to 224, antialiased": lambda: resize(photo, 224, antialias=True),
        "resize to 448, not antialiased": lambda: resize(photo, 448, antialias=False),
        "photo to the model's input": lambda: preprocess(photo, spec),
        "JPEG to the model's input": lambda: preprocess(open_photo(data), spec),
    }
    if grid.count == 1:
        cases["all maps as JSON"] = lambda: render(
            logits, decoded, spec, RenderPlan(AnswerFormat.JSON), Share(spec.task_names)
        )
    for task, scores in logits.items():
        own, small = spec.task(task), decode_coarse(task, scores, side)
        source = PhotoMap(task, small, options.height, options.width)
        cases[f"{task}: model's size"] = lambda t=task, s=scores: decode_coarse(t, s, side)
        cases[f"{task}: pixels"] = lambda s=source, o=own: deque(Painting(s, o).bands(), maxlen=0)
        png_bytes = len(encode(Painting(source, own)).png)
        cases[f"{task}: PNG, {png_bytes} bytes"] = lambda s=source, o=own: encode(Painting(s, o)).png
        if task in (Task.SEMSEG, Task.HUMAN_PARTS):
            sizes = (side, (options.height, options.width))
            for edges, nearest in (("nearest", True), ("scores", False)):
                cases[f"{task}: edges {edges}, PNG in all"] = lambda t=task, s=scores, z=sizes, n=nearest, o=own: (
                    encode(Painting(photo_map(t, s, *z, nearest_edges=n), o))
                )
        if task is Task.NORMALS:
            whole = partial(encode_normals, scores, side, options.height, options.width, 0)
            cases["normals: all at once"] = partial(whole, options.height)
            cases["normals: upper half"] = partial(whole, options.height // 2)
    with OtherLoad() as load:
        seconds = interleaved(cases, rounds=options.rounds)
    for name, values in seconds.items():
        print(f"  {name:36} {median_ms(values):7.2f} ms  {1e3 * min(values):7.2f}")
    for task in logits:
        of_edges = [
            median_ms(seconds[f"{task}: edges {edges}, PNG in all"])
            for edges in ("scores", "nearest")
            if f"{task}: edges {edges}, PNG in all" in seconds
        ]
        if of_edges:
            print(f"figure edges.{task} {of_edges[0] / of_edges[1]:.3f}")
    if load.warning():
        print(load.warning())


if __name__ == "__main__":
    main()
