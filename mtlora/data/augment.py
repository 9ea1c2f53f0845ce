"""Joint augmentation of photos and labels on batches of cached arrays: one affine map per photo, one sampling each.

Geometry is done in coordinates in which a pixel of the original photo is square, so that a rotation is a rotation
although cached photos are stretched to squares. Random numbers are drawn on the CPU, whatever device samples, so a
seed means the same everywhere. Normals turn with the picture and depth shrinks with the zoom (what is
seen twice as large is half as far), as in the published recipe. Colours change for photos only.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from mtlora.data.array_store import PhotoArrays
from mtlora.data.read import MM_PER_M
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

NO_VALUE = -1.0
"""Ignore value of saliency and edge targets, which are 0..1 otherwise."""

_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How far photos are changed; `still()` changes nothing."""

    flip: bool = True
    rotate_deg: float = 20.0  # uniform in +-
    scale: tuple[float, float] = (0.75, 1.25)  # zoom factor, log-uniform; above 1 a part of the photo is seen
    stretch: float = 1.0  # aspect ratio changes log-uniformly by up to this factor
    jitter: float = 0.0  # brightness, contrast and saturation change by up to this share
    grey: float = 0.0  # probability of a photo without colours

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise TrainingError(f"scale must be a positive range, got {self.scale}")
        if self.stretch < 1 or not 0 <= self.jitter < 1 or not 0 <= self.grey <= 1 or not 0 <= self.rotate_deg <= 180:
            raise TrainingError(f"augmentation out of range: {self}")


def still() -> AugmentConfig:
    """No augmentation at all."""
    return AugmentConfig(flip=False, rotate_deg=0.0, scale=(1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Geometry:
    """One affine map per photo, from the sampled picture to the cached one.

    theta: float [B, 2, 3], in the coordinates of `torch.nn.functional.affine_grid` (-1..1, corners not aligned)
    turn:  float [B, 2, 2], takes the x and y of a cached normal to those of the sampled one
    zoom:  float [B], how much larger things are seen than in the cached picture
    """

    theta: Tensor
    turn: Tensor
    zoom: Tensor

    def part(self, keep: slice) -> "Geometry":
        """The maps of some of the photos."""
        return Geometry(self.theta[keep], self.turn[keep], self.zoom[keep])

    def to(self, device: str) -> "Geometry":
        """The same maps on a device."""
        return Geometry(self.theta.to(device), self.turn.to(device), self.zoom.to(device))

    @classmethod
    def identity(cls, count: int, device: torch.device) -> "Geometry":
        """Maps that change nothing."""
        turn = torch.eye(2, device=device).expand(count, 2, 2)
        return cls(torch.eye(2, 3, device=device).expand(count, 2, 3), turn, torch.ones(count, device=device))

    def grid(self, height: int, width: int, extent: float = 1.0) -> Tensor:
        """Sampling positions, float [B, height, width, 2]; `extent` > 1 reaches over the right and lower border."""
        device = self.theta.device
        with exact(device):
            return self._grid(height, width, extent, device)

    def _grid(self, height: int, width: int, extent: float, device: torch.device) -> Tensor:
        xs = ((torch.arange(width, device=device) + 0.5) / width * 2 * extent) - 1
        ys = ((torch.arange(height, device=device) + 0.5) / height * 2 * extent) - 1
        ones = torch.ones(height, width, device=device)
        base = torch.stack([*torch.meshgrid(ys, xs, indexing="ij")[::-1], ones], dim=-1)
        return torch.einsum("bij,hwj->bhwi", self.theta, base)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step sees; all tensors are on the device of training.

    photos:  float [B, 3, S, S], RGB 0..1
    targets: semseg, human_parts: int64 [B, s, s], 255 = ignore; saliency, edge: float [B, 1, s, s], -1 = ignore;
             normals: float [B, 3, s, s], unit length, all zero = ignore; depth: float [B, 1, s, s], metres, 0 = ignore
    """

    indices: NDArray[np.int64]
    photos: Tensor
    targets: dict[Task, Tensor]
    geometry: Geometry


def exact(device: torch.device) -> torch.autocast:
    """A context without mixed precision: positions and labels in bfloat16 would be off by pixels."""
    return torch.autocast(device.type, enabled=False)


def draw_geometry(aspect: Tensor, config: AugmentConfig, generator: Generator) -> Geometry:
    """Random zoom, place, rotation and flip for photos of these aspect ratios (width / height), float [B]."""
    count = len(aspect)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    zoom = torch.exp(uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    stretch = torch.exp(uniform(-math.log(config.stretch), math.log(config.stretch)) / 2)
    angle = uniform(-config.rotate_deg, config.rotate_deg) * (math.pi / 180)
    mirror = torch.where(uniform(0, 1) < (0.5 if config.flip else 0.0), -1.0, 1.0)
    half_width, half_height = aspect * stretch / zoom, 1 / (stretch * zoom)
    centre_x = uniform(-1, 1) * (aspect - half_width).clamp(min=0)
    centre_y = uniform(-1, 1) * (1 - half_height).clamp(min=0)

    cos, sin = torch.cos(angle), torch.sin(angle)
    rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    flip = torch.diag_embed(torch.stack([mirror, torch.ones(count)], -1))
    turned = rotation @ flip  # sampled direction -> cached direction, both with square pixels
    linear = turned @ torch.diag_embed(torch.stack([half_width, half_height], -1))
    to_cached = torch.stack([1 / aspect, torch.ones(count)], -1)
    theta = torch.cat([linear, torch.stack([centre_x, centre_y], -1)[..., None]], dim=-1) * to_cached[..., None]
    return Geometry(theta, turned.transpose(1, 2), zoom)


def make_batch(
    arrays: PhotoArrays,
    indices: NDArray[np.int64],
    image_size: int,
    config: AugmentConfig,
    generator: Generator,
    *,
    label_size: int | None = None,
    keep: slice = slice(None),
) -> Batch:
    """Augmented photos and targets of these positions in the cache, on the arrays' device.

    indices:    int64 [B]
    image_size: side of the photos; label_size: side of the targets (None: the same)
    keep:       make only this part of the batch; its photos look as they would in the whole batch
    """
    with exact(torch.device(arrays.device)):
        order = np.sort(indices)  # memory maps like ascending reads
        aspect = torch.from_numpy(arrays.cache.aspect[order])
        geometry = draw_geometry(aspect, config, generator).part(keep).to(arrays.device)
        colours = draw_colours(len(order), config, generator)[:, keep]
        photos = F.grid_sample(
            arrays.photos.rows(order[keep]).float() / 255, geometry.grid(image_size, image_size), align_corners=False
        )
        targets = _targets(arrays, order[keep], geometry, label_size or image_size)
        return Batch(order[keep], change_colours(photos, colours), targets, geometry)


def _targets(arrays: PhotoArrays, order: NDArray[np.int64], geometry: Geometry, side: int) -> dict[Task, Tensor]:
    cache, device = arrays.cache, arrays.device
    grid = geometry.grid(side, side)
    inside = (grid.abs() <= 1).all(dim=-1)[:, None]
    targets = {
        task: make_target(task, labels.rows(order), torch.from_numpy(cache.known[task][order]).to(device), grid, inside)
        for task, labels in arrays.labels.items()
    }
    if Task.NORMALS in targets:
        targets[Task.NORMALS] = turn_normals(targets[Task.NORMALS], geometry.turn)
    if Task.DEPTH in targets:
        targets[Task.DEPTH] = targets[Task.DEPTH] / geometry.zoom[:, None, None, None]
    return targets


def make_target(task: Task, stored: Tensor, known: Tensor, grid: Tensor, inside: Tensor) -> Tensor:
    """Sample stored labels and give them their unit; see `Batch.targets`.

    stored: [B, C, s, s]; known: bool [B]; grid: float [B, h, w, 2]; inside: bool [B, 1, h, w]
    """
    inside = inside & known[:, None, None, None]
    soft = task in (Task.SALIENCY, Task.EDGE)
    sampled = F.grid_sample(stored.float(), grid, mode="bilinear" if soft else "nearest", align_corners=False)
    if task in (Task.SEMSEG, Task.HUMAN_PARTS):
        return torch.where(inside, sampled, float(IGNORE_INDEX))[:, 0].long()
    if soft:
        return torch.where(inside, sampled / 255, NO_VALUE)
    if task is Task.DEPTH:
        return torch.where(inside, sampled / MM_PER_M, 0.0)
    valid = inside & (sampled != 0).any(dim=1, keepdim=True)
    return torch.where(valid, F.normalize(sampled / 127.5 - 1, dim=1), 0.0)


def turn_normals(normals: Tensor, turn: Tensor) -> Tensor:
    """Turn x and y of normals, float [B, 3, h, w], by matrices, float [B, 2, 2]; zeros stay zeros."""
    return torch.cat([torch.einsum("bij,bjhw->bihw", turn, normals[:, :2]), normals[:, 2:]], dim=1)


def draw_colours(count: int, config: AugmentConfig, generator: Generator) -> Tensor:
    """Factors of brightness, contrast and saturation, float [3, count]; 1 changes nothing."""
    if config.jitter == 0 and config.grey == 0:
        return torch.ones(3, count)
    factors = 1 + (torch.rand(3, count, generator=generator) * 2 - 1) * config.jitter
    no_colour = torch.rand(count, generator=generator) < config.grey
    return torch.stack([factors[0], factors[1], torch.where(no_colour, 0.0, factors[2])])


def change_colours(photos: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, contrast and saturation by factors as drawn, on the CPU.

    photos: float [B, 3, H, W] in 0..1, on any device, and so the result
    """
    if bool((factors == 1).all()):
        return photos
    brightness, contrast, saturation = factors.to(photos.device)[..., None, None, None]
    weights = torch.tensor(_GREY, device=photos.device)[:, None, None]
    grey = (photos * weights).sum(dim=1, keepdim=True)
    photos = grey + (photos - grey) * saturation
    mean = grey.mean(dim=(2, 3), keepdim=True)
    changed: Tensor = ((mean + (photos - mean) * contrast) * brightness).clamp(0, 1)
    return changed
