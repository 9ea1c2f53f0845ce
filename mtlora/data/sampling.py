"""The photos of a step: a pure function of seed, step and process, so that a resumed run sees the same."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from mtlora.data.cache import PhotoCache
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

_SHUFFLE = 7  # sets the orders of passes apart from the random numbers of steps


def step_generator(seed: int, step: int, rank: int = 0) -> Generator:
    """Random numbers of one step in one process, the same whenever it is run."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(2, np.uint32)
    return Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


def draw(weights: NDArray[np.float64], count: int, generator: Generator) -> NDArray[np.int64]:
    """Draw `count` photos with replacement; weights: float [N], any positive sum."""
    if weights.ndim != 1 or not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        raise TrainingError(f"sampling weights must be finite, not negative and not all 0, got {weights.shape}")
    return torch.multinomial(torch.from_numpy(weights), count, replacement=True, generator=generator).numpy()


def shuffled(photos: NDArray[np.int64], count: int, seed: int, step: int) -> NDArray[np.int64]:
    """The `count` photos of this step when every pass over `photos` has an order of its own; may span two passes."""
    if not len(photos):
        raise TrainingError("there is no labelled photo to draw")
    wanted = np.arange(step * count, (step + 1) * count)
    passes = {int(p): _order(seed, int(p), len(photos)) for p in np.unique(wanted // len(photos))}
    return photos[[passes[int(w) // len(photos)][int(w) % len(photos)] for w in wanted]]


def _order(seed: int, number: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, number, _SHUFFLE)).permutation(count)


def class_pixels(cache: PhotoCache, task: Task, classes: int) -> NDArray[np.int64]:
    """Labelled pixels of every class in every photo: int64 [N, classes]."""
    counts = np.zeros((len(cache), classes), dtype=np.int64)
    for index, label in enumerate(cache.labels[task]):
        found = np.bincount(label[:, ::2, ::2].ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
        if found[classes:].any():
            raise TrainingError(
                f"photo {cache.ids[index]} has {task} class {found.nonzero()[0].max()} of 0..{classes - 1}"
            )
        counts[index] = found[:classes]
    return counts


def repeat_factors(pixels: NDArray[np.int64], *, wanted_share: float = 0.05, most: float = 6.0) -> NDArray[np.float64]:
    """Weights that show rare classes more often: float [N], 1..most.

    A class that fewer than `wanted_share` of the photos show raises its photos by sqrt(wanted_share / share).
    pixels: int64 [N, classes], from `class_pixels`
    """
    share = (pixels > 0).mean(axis=0)
    factor = np.sqrt(wanted_share / np.maximum(share, 1e-9)).clip(1.0, most)
    largest: NDArray[np.float64] = np.where(pixels > 0, factor, 1.0).max(axis=1)
    return largest


def class_weights(pixels: NDArray[np.int64], exponent: float, *, most: float = 4.0) -> torch.Tensor:
    """Weights of classes in a loss: (mean share / share) ** exponent, at most `most`, mean 1 over labelled pixels.

    pixels:  int64 [N, classes]
    returns: float32 [classes]; exponent 0 gives ones
    """
    share = pixels.sum(axis=0) / max(1, pixels.sum())
    raw = (1 / len(share) / np.maximum(share, 1e-6)) ** exponent
    raw = np.minimum(raw, most * raw[share > 0].min() * len(share)) if (share > 0).any() else raw
    scale = float((raw * share).sum())
    return torch.from_numpy(raw / scale if scale else np.ones_like(raw)).float()
