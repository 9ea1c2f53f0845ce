"""The teacher's maps for a batch: stored ones of whole photos, or what it sees in the very crops.

A teacher that looks at each crop itself (L. Beyer et al., 2022, call it consistent) answers for what the network sees:
zoom, place and colours too. It costs a forward pass a step, which only a GPU makes light of.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.data.array_store import ArrayStore, PhotoArrays
from mtlora.data.augment import Batch, Geometry
from mtlora.training.pretraining.teacher import MEAN, STD, TeacherCache, dense_features

LIVE_SIDE_PX = 224
"""Side at which a live teacher sees crops: what it was made for, whatever side the network is trained at."""

_SAMPLE, _SAMPLE_BATCH = 512, 32  # photos that a live teacher's features are standardised over


class TeacherKind(StrEnum):
    """Where the teacher's features come from."""

    STORED = "stored"
    LIVE = "live"


class TeacherMaps(Protocol):
    """Standardised features for a batch; mean, std: float [C, 1, 1], undo it for the coarsest ones."""

    mean: Tensor
    std: Tensor

    def targets(self, batch: Batch, sides: Sequence[int], extents: Sequence[float]) -> list[Tensor]:
        """Per scale float [B, C, side, side]; maps reach `extent` times as far as the crop."""


class StoredMaps:
    """Cached maps of whole photos, sampled with a batch's own geometry."""

    def __init__(self, cache: TeacherCache, device: str) -> None:
        self._arrays = [ArrayStore(maps, device) for maps in cache.maps]
        self.mean, self.std = (torch.from_numpy(a[-1])[:, None, None].to(device) for a in (cache.mean, cache.std))

    def targets(self, batch: Batch, sides: Sequence[int], extents: Sequence[float]) -> list[Tensor]:
        """See `TeacherMaps.targets`."""
        stored = [store.rows(batch.indices).float() for store in self._arrays]
        wanted = zip(stored, sides, extents, strict=True)
        return [_sample(maps, batch.geometry, side, extent) for maps, side, extent in wanted]


class LiveMaps:
    """The teacher looks at the photos of a batch, which must be at least `LIVE_SIDE_PX` wide."""

    def __init__(self, model: Any, arrays: PhotoArrays) -> None:
        self._model = model.to(arrays.device, memory_format=torch.channels_last)
        self._statistics = self._standards(arrays)
        self.mean, self.std = (s[0] for s in self._statistics[-1])

    def targets(self, batch: Batch, sides: Sequence[int], extents: Sequence[float]) -> list[Tensor]:
        """See `TeacherMaps.targets`."""
        crop = Geometry.identity(len(batch.photos), batch.photos.device)
        seen = zip(self._look(batch.photos), self._statistics, strict=True)
        maps = [(features.float() - mean) / std for features, (mean, std) in seen]
        return [_sample(m, crop, side, extent) for m, side, extent in zip(maps, sides, extents, strict=True)]

    @torch.no_grad()
    def _look(self, photos: Tensor) -> list[Tensor]:
        return dense_features(self._model, ((photos - MEAN) / STD).contiguous(memory_format=torch.channels_last))

    def _standards(self, arrays: PhotoArrays) -> list[tuple[Tensor, Tensor]]:
        """Mean and standard deviation of every channel, float [1, C, 1, 1], over photos spread evenly."""
        count = min(_SAMPLE, len(arrays.cache))
        order = np.arange(count) * len(arrays.cache) // count
        sums: list[tuple[Tensor, Tensor]] = []
        for start in range(0, count, _SAMPLE_BATCH):
            photos = arrays.photos.rows(order[start : start + _SAMPLE_BATCH]).float() / 255
            found = [m.double() for m in self._look(F.interpolate(photos, (LIVE_SIDE_PX,) * 2, mode="bilinear"))]
            moments = [(m.mean((2, 3)).sum(0), m.square().mean((2, 3)).sum(0)) for m in found]
            sums = [(a + c, b + d) for (a, b), (c, d) in zip(sums, moments, strict=True)] if sums else moments
        means = [(a / count, b / count) for a, b in sums]
        return [
            (m.float().view(1, -1, 1, 1), (s - m.square()).clamp(min=0).add(1e-6).sqrt().float().view(1, -1, 1, 1))
            for m, s in means
        ]


def _sample(maps: Tensor, geometry: Geometry, side: int, extent: float) -> Tensor:
    return F.grid_sample(maps, geometry.grid(side, side, extent), padding_mode="border", align_corners=False)
