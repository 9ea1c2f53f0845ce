"""The single call of the library: one photo in, its maps out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from mtlora.images.opening import open_photo
from mtlora.images.photo import Photo, to_rgb
from mtlora.images.tiles import UNTILED, WHOLE, Grid, Tiling, parse_grid
from mtlora.maps.blending import blend
from mtlora.maps.postprocessing import Map, photo_map
from mtlora.ops.preprocess import preprocess
from mtlora.vocabulary.errors import ImageError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task, parse_tasks

TILES_OF_AUTO = 16
MOST_TILES = 256
TILES_AT_ONCE = 16
"""Of a batch: so many images the engine is sure to hold."""


class Predictor(Protocol):
    """What can predict: an `Adapted` set, or an `MTLoRAModel` in eval mode."""

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""

    def coarse_logits(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """float32 [B, 3, S, S] -> float [B, K, S/8, S/8] for each task."""


def predict(
    model: Predictor,
    photo: Image.Image | bytes | str | Path,
    tasks: str | Sequence[str] | None = None,
    tiles: str | None = None,
) -> dict[Task, Map]:
    """Maps of one photo, each at the (upright) photo's size.

    photo:   an opened image, or a path or the bytes of one
    tasks:   names, or a comma list of them; None: all that the adapter set has
    tiles:   "2x3": rows x columns of overlapping tiles, one pass each; "auto": by its size, up to 16; None: the
             photo squeezed into one pass. `ImageError` for anything else.
    returns: class maps uint8 [H, W]; saliency, edge float32 [H, W] in 0..1; depth float32 [H, W]; normals float32
             [H, W, 3], unit length
    """
    rgb = to_rgb(photo) if isinstance(photo, Image.Image) else open_photo(photo)
    grid = tiling_of(tiles).of(rgb.width, rgb.height, model.spec.image_size)
    coarse = coarse_logits(model, rgb, model.spec.select(parse_tasks(tasks) if tasks else None), grid)
    return {task: map_of(task, scores, model.spec, rgb.height, rgb.width, grid) for task, scores in coarse.items()}


def tiling_of(tiles: str | None) -> Tiling:
    """How photos are cut that `predict` is told so of; `ImageError` for a grid that is none, or of too many tiles."""
    if tiles is None:
        return UNTILED
    try:
        grid = parse_grid(tiles)
    except ValueError as error:
        raise ImageError(f"tiles {error}, got {tiles!r}") from error
    if grid is not None and grid.count > MOST_TILES:
        raise ImageError(f"tiles {grid} are {grid.count} tiles; a photo may have {MOST_TILES}")
    return Tiling(grid, TILES_OF_AUTO)


def coarse_logits(model: Predictor, rgb: Image.Image, tasks: Sequence[Task], grid: Grid = WHOLE) -> dict[Task, Tensor]:
    """Logits of one upright RGB photo before the last upsampling: float [K, S/8, S/8] for each task.

    grid: of tiles; those of more than one have the size that `Grid.cells` says
    """
    photo, side = Photo(rgb), model.spec.image_size
    parts = [photo.part(box) for box in grid.boxes(rgb.width, rgb.height, side)] if grid.count > 1 else [photo]
    with torch.inference_mode():
        passes = [
            model.coarse_logits(torch.stack([preprocess(part, model.spec) for part in some]), tasks)
            for some in (parts[at : at + TILES_AT_ONCE] for at in range(0, len(parts), TILES_AT_ONCE))
        ]
        return {task: blend([scores for one in passes for scores in one[task]], grid) for task in passes[0]}


def map_of(task: Task, coarse: Tensor, spec: AdapterSpec, height: int, width: int, grid: Grid = WHOLE) -> Map:
    """The map of a photo of this size, see `photo_map`; grid: that its logits were put together from."""
    return photo_map(task, coarse, grid.covered_px(spec.image_size), (height, width)).whole()
