"""From logits to maps: at the model's resolution first, then at the photo's size, one small map at a time.

K maps of scores at photo size are never made: for 21 classes and 12 megapixels they would take 1 GB.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mtlora.inference.ops import upsample_argmax
from mtlora.tasks import TRAITS, Decode, Task

Map = NDArray[np.uint8] | NDArray[np.float32]
"""uint8 [H, W] of class indices; float32 [H, W]; or float32 [H, W, 3] of unit vectors: see `Decode`."""

_SMALLEST_NORM = 1e-12
_LARGEST_LOGIT = 1e15
"""Far beyond what a trained set gives; squares and sums over a photo still fit float32 below it."""


def decode(task: Task, logits: Tensor) -> Tensor:
    """Logits of one image to its map at the model's resolution.

    logits:  float [K, h, w], any float type
    returns: uint8 [h, w] class indices, float32 [h, w] (0..1 for saliency and edge), or float32 [3, h, w] unit vectors
    """
    match TRAITS[task].decode:
        case Decode.ARGMAX:
            return class_map(logits)
        case Decode.SIGMOID:
            return logits[0].float().sigmoid()
        case Decode.UNIT_VECTOR:
            return functional.normalize(logits.float(), dim=0, eps=_SMALLEST_NORM)
        case Decode.IDENTITY:
            return logits[0].float()


def is_usable(logits: Tensor) -> bool:
    """Whether maps can be made of these logits, float of any shape: finite, and not so large that sums overflow."""
    low, high = torch.aminmax(logits)  # both carry any NaN, and no comparison with NaN is true
    return bool((low > -_LARGEST_LOGIT) & (high < _LARGEST_LOGIT))


def decode_coarse(task: Task, coarse: Tensor, size: int) -> Tensor:
    """A decoder's logits of one image to its map at the model's input size; see `decode`.

    Class maps come straight from the decoder's resolution: K maps of scores at the input's size are never made.

    coarse: float [K, h, w]
    """
    if TRAITS[task].decode is Decode.ARGMAX:
        return upsample_argmax(coarse, size, size)
    return decode(task, at_model_size(coarse, size))


def at_model_size(coarse: Tensor, size: int) -> Tensor:
    """A decoder's logits of one image, float [K, h, w], upsampled bilinearly to the model's input: [K, size, size]."""
    return _bilinear(coarse, size, size)


def class_map(logits: Tensor) -> Tensor:
    """Most likely class of every pixel; of equals the lower index, as argmax.

    A running comparison: four times as fast on a CPU as argmax over the first dimension.
    logits:  float [K, h, w], unnormalised scores, K <= 255
    returns: uint8 [h, w], class index in 0..K-1
    """
    best = logits[0].clone()
    index = torch.zeros_like(best, dtype=torch.uint8)
    for k in range(1, logits.shape[0]):
        index.masked_fill_(logits[k] > best, k)
        torch.maximum(best, logits[k], out=best)
    return index


def at_photo_size(task: Task, decoded: Tensor, height: int, width: int) -> Map:
    """A decoded map (see `decode`) at the photo's size, as an array of its own.

    Class maps: the nearest pixel. The others: bilinear; normals made unit length again.
    returns: uint8 [H, W], float32 [H, W], or float32 [H, W, 3]
    """
    match TRAITS[task].decode:
        case Decode.ARGMAX:
            rows, columns = _nearest(decoded.shape[0], height), _nearest(decoded.shape[1], width)
            indices: NDArray[np.uint8] = decoded.cpu().numpy()
            return indices.take(rows, axis=0).take(columns, axis=1)
        case Decode.UNIT_VECTOR:
            return _unit_vectors(_bilinear(decoded, height, width)).cpu().numpy()
        case Decode.SIGMOID | Decode.IDENTITY:
            return _bilinear(decoded[None], height, width)[0].cpu().numpy()


def _unit_vectors(planes: Tensor) -> Tensor:
    """float32 [3, H, W] to unit length as float32 [H, W, 3].

    Plane by plane into the final layout: far faster than normalising and then transposing a large map.
    """
    x, y, z = planes
    length = (x * x + y * y + z * z).sqrt_().clamp_min_(_SMALLEST_NORM)
    vectors = torch.empty(*length.shape, 3, device=planes.device)
    for axis, plane in enumerate(planes):
        torch.div(plane, length, out=vectors[..., axis])
    return vectors


def _nearest(source: int, target: int) -> NDArray[np.intp]:
    """For each of `target` positions the index of the nearest of `source` pixel centres."""
    return (2 * np.arange(target, dtype=np.intp) + 1) * source // (2 * target)


def _bilinear(maps: Tensor, height: int, width: int) -> Tensor:
    if maps.shape[1:] == (height, width):
        return maps
    return functional.interpolate(maps[None], (height, width), mode="bilinear", align_corners=False)[0]
