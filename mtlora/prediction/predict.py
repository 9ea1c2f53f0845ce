"""The single call of the library: one photo in, its maps out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from mtlora.images.opening import open_photo
from mtlora.images.photo import to_rgb
from mtlora.maps.postprocessing import Map, photo_map
from mtlora.ops.preprocess import preprocess
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task, parse_tasks


class Predictor(Protocol):
    """What can predict: an `Adapted` set, or an `MTLoRAModel` in eval mode."""

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""

    def coarse_logits(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """float32 [B, 3, S, S] -> float [B, K, S/8, S/8] for each task."""


def predict(
    model: Predictor, photo: Image.Image | bytes | str | Path, tasks: str | Sequence[str] | None = None
) -> dict[Task, Map]:
    """Maps of one photo, each at the (upright) photo's size.

    photo:   an opened image, or a path or the bytes of one
    tasks:   names, or a comma list of them; None: all that the adapter set has
    returns: class maps uint8 [H, W]; saliency, edge float32 [H, W] in 0..1; depth float32 [H, W]; normals float32
             [H, W, 3], unit length
    """
    rgb = to_rgb(photo) if isinstance(photo, Image.Image) else open_photo(photo)
    coarse = coarse_logits(model, rgb, model.spec.select(parse_tasks(tasks) if tasks else None))
    return {task: map_of(task, scores, model.spec, rgb.height, rgb.width) for task, scores in coarse.items()}


def coarse_logits(model: Predictor, rgb: Image.Image, tasks: Sequence[Task]) -> dict[Task, Tensor]:
    """Logits of one upright RGB photo before the last upsampling: float [K, S/8, S/8] for each task."""
    with torch.inference_mode():
        batch = model.coarse_logits(preprocess(rgb, model.spec)[None], tasks)
    return {task: scores[0] for task, scores in batch.items()}


def map_of(task: Task, coarse: Tensor, spec: AdapterSpec, height: int, width: int) -> Map:
    """The map of a photo of this size, see `photo_map`."""
    return photo_map(task, coarse, spec.image_size, (height, width)).whole()
