"""One photo in, its maps out: the library in a single call."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from mtlora.model import MTLoRAModel
from mtlora.outputs import Map, to_maps
from mtlora.preprocess import open_photo, preprocess, to_rgb
from mtlora.tasks import Task, parse_tasks


def predict(
    model: MTLoRAModel, photo: Image.Image | bytes | str | Path, tasks: str | Sequence[str] | None = None
) -> dict[Task, Map]:
    """Maps of one photo, each at the (upright) photo's size.

    photo:   an opened image, or a path or the bytes of one
    tasks:   names, or a comma list of them; None: all that the adapter set has
    returns: class maps uint8 [H, W]; saliency, edge float32 [H, W] in 0..1; depth float32 [H, W]; normals float32
             [H, W, 3], unit length
    """
    rgb = to_rgb(photo) if isinstance(photo, Image.Image) else open_photo(photo)
    wanted = model.spec.select(parse_tasks(tasks) if tasks else None)
    x = preprocess(rgb, model.spec)[None]
    with torch.inference_mode():
        logits = model(x.to(next(model.parameters()).device), wanted)
        return to_maps({task: scores[0] for task, scores in logits.items()}, rgb.height, rgb.width)
