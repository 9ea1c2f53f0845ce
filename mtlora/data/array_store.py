"""The arrays of a cache for training: row by row from memory maps, or all at once from a GPU's memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlora.data.cache import PhotoCache
from mtlora.vocabulary.tasks import Task

_HELD_TYPES = (np.uint8, np.float16)
_MOST_OF_WHAT_IS_FREE = 0.25
_COPIED_AT_ONCE = 512  # rows; more would need as much main memory again


class ArrayStore:
    """Rows of one array [N, ...], as tensors on a device."""

    def __init__(self, array: NDArray[Any], device: str = "cpu") -> None:
        self._array, self._device = array, torch.device(device)
        self._held = _copied(array, self._device) if self._device.type == "cuda" and _fits(array, device) else None

    @property
    def on_device(self) -> bool:
        """Whether the whole array lies in the device's memory."""
        return self._held is not None

    def rows(self, order: NDArray[np.int64]) -> Tensor:
        """These rows, of the array's type, on the device; order: int64 [B]."""
        if self._held is not None:
            return self._held[torch.from_numpy(order).to(self._device)]
        return torch.from_numpy(self._array[order]).to(self._device)


def _fits(array: NDArray[Any], device: str) -> bool:
    return array.dtype in _HELD_TYPES and array.nbytes < _MOST_OF_WHAT_IS_FREE * torch.cuda.mem_get_info(device)[0]


def _copied(array: NDArray[Any], device: torch.device) -> Tensor:
    held = torch.empty(array.shape, dtype=torch.from_numpy(array[:1].copy()).dtype, device=device)
    for start in range(0, len(array), _COPIED_AT_ONCE):
        part = slice(start, start + _COPIED_AT_ONCE)
        held[part] = torch.from_numpy(array[part].copy())
    return held


@dataclass(frozen=True, slots=True)
class PhotoArrays:
    """The arrays of a `PhotoCache`, where training reads them."""

    cache: PhotoCache
    device: str
    photos: ArrayStore
    labels: dict[Task, ArrayStore]

    @classmethod
    def of(cls, cache: PhotoCache, device: str = "cpu") -> "PhotoArrays":
        """For training on `device`; on a GPU arrays are copied there where there is room."""
        labels = {task: ArrayStore(array, device) for task, array in cache.labels.items()}
        return cls(cache, device, ArrayStore(cache.photos, device), labels)
