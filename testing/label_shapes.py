"""Labels whose change under augmentation is known."""

import numpy as np
from torch import Generator

from mtlora.data.cache import PhotoCache
from mtlora.vocabulary.tasks import Task

SIDE = 32


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def paraboloid(count: int = 4, aspect: float = 1.5) -> PhotoCache:
    """A dome: the normal's x and y point away from the centre, which brightness encodes too.

    Photo channel 0 grows to the right, channel 1 downwards, so a sampled photo says where each pixel came from.
    """
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    photo = np.stack([(x + 1) * 127.5, (y + 1) * 127.5, np.zeros_like(x)]).round().astype(np.uint8)
    n = np.stack([x * aspect, y, -np.ones_like(x)])
    n /= np.linalg.norm(n, axis=0)
    normals = ((n + 1) * 127.5).round().astype(np.uint8)
    semseg = np.where(x > 0, 15, 0).astype(np.uint8)[None]
    return PhotoCache(
        ids=tuple(map(str, range(count))),
        side=SIDE,
        photos=np.stack([photo] * count),
        labels={Task.NORMALS: np.stack([normals] * count), Task.SEMSEG: np.stack([semseg] * count)},
        known={Task.NORMALS: np.ones(count, bool), Task.SEMSEG: np.ones(count, bool)},
        aspect=np.full(count, aspect, dtype=np.float32),
    )
