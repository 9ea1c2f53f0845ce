"""A batch as one picture: in every row a photo and its targets, as the network sees them."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mtlora.data.augment import Batch
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

IGNORED = (255, 0, 255)
"""Colour of what no loss counts."""

_GAP_PX = 4


def batch_picture(batch: Batch, spec: AdapterSpec, rows: int = 8) -> Image.Image:
    """Photos in the first column, then one column per task; what is ignored is magenta."""
    side = batch.photos.shape[-1]
    columns = [_to_bytes(batch.photos[:rows])]
    columns += [target_colours(spec.task(task), batch.targets[task][:rows]) for task in spec.task_names]
    height, width = (side + _GAP_PX) * len(columns[0]) - _GAP_PX, (side + _GAP_PX) * len(columns) - _GAP_PX
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    for x, column in enumerate(columns):
        for y, image in enumerate(column):
            cell = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(cell, (x * (side + _GAP_PX), y * (side + _GAP_PX)))
    return picture


def target_colours(task: TaskSpec, target: Tensor) -> NDArray[np.uint8]:
    """Targets of a task (see `Batch.targets`) as colours, uint8 [B, h, w, 3]."""
    if task.classes:
        palette = np.full((IGNORE_INDEX + 1, 3), IGNORED, dtype=np.uint8)
        palette[: len(task.classes)] = [c.color for c in task.classes]
        found: NDArray[np.uint8] = palette[target.numpy()]
        return found
    if task.task is Task.NORMALS:
        return _masked((target + 1) / 2, (target != 0).any(dim=1))
    if task.task is Task.DEPTH:
        return _masked((target / target.max().clamp(min=1e-6)).expand(-1, 3, -1, -1), target[:, 0] > 0)
    return _masked(target.expand(-1, 3, -1, -1), target[:, 0] >= 0)


def _masked(values: Tensor, valid: Tensor) -> NDArray[np.uint8]:
    colours = _to_bytes(values)
    colours[~valid.numpy()] = IGNORED
    return colours


def _to_bytes(values: Tensor) -> NDArray[np.uint8]:
    scaled: NDArray[np.uint8] = (values.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy().copy()
    return scaled
