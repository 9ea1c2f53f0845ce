"""Postprocessing: logits to maps, first at the model's resolution, then at the photo's size, one small map at a time.

K maps of scores at photo size are never made: for 21 classes and 12 megapixels they would take 1 GB. Edges follow the
scores all the same: they are looked at where neighbours differ. Where floats at photo size are only a step, they are
made in bands of rows: of 50 megapixels of normals they would take 600 MB.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlora.ops.map_ops import decide_classes, enlarge_sigmoid, unit_normals, upsample_argmax
from mtlora.ops.torch_ops import bands_of_rows, bilinear, enlarged_rows, nearest, unit_vectors
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.stopping import Check, never
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

Map = NDArray[np.uint8] | NDArray[np.float32]
"""uint8 [H, W] of class indices; float32 [H, W]; or float32 [H, W, 3] of unit vectors: see `Decode`."""
Size = tuple[int, int]
"""Height and width."""

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
            return unit_normals(logits.float(), *logits.shape[1:])
        case Decode.IDENTITY:
            return logits[0].float()


def is_usable(logits: Tensor) -> bool:
    """Whether maps can be made of these logits, float of any shape: finite, and not so large that sums overflow."""
    low, high = map(float, torch.aminmax(logits))  # both carry any NaN, and no comparison with NaN is true
    return low > -_LARGEST_LOGIT and high < _LARGEST_LOGIT


def sides_of(size: int | Size) -> Size:
    """Height and width of a square of this side, or of what tiles cover together."""
    return (size, size) if isinstance(size, int) else size


def decode_coarse(task: Task, coarse: Tensor, size: int | Size) -> Tensor:
    """A decoder's logits of one image to its map at the model's input size; see `decode`.

    Class maps come straight from the decoder's resolution: K maps of scores at the input's size are never made.

    coarse: float [K, h, w]
    size:   the input's side, or height and width of what tiles cover together
    """
    height, width = sides_of(size)
    match TRAITS[task].decode:
        case Decode.ARGMAX:
            return upsample_argmax(coarse, height, width)
        case Decode.UNIT_VECTOR:
            return unit_normals(coarse.float(), height, width)
        case Decode.SIGMOID:
            return enlarge_sigmoid(coarse[0].float(), height, width)
        case Decode.IDENTITY:
            return decode(task, at_model_size(coarse, size))


def at_model_size(coarse: Tensor, size: int | Size) -> Tensor:
    """A decoder's logits of one image, float [K, h, w], upsampled bilinearly to the model's input: [K, size, size]."""
    return bilinear(coarse, *sides_of(size))


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


@dataclass(frozen=True, slots=True, eq=False)
class PhotoMap:
    """A decoded map (see `decode`) at the photo's size, made band by band from the top: never all of it at once.

    Class maps: decided by bilinearly enlarged scores where there are some, else the nearest pixel. The others:
    bilinear; normals made unit length again.

    scores: of a class map, float [K, h, w], the decoder's logits that `decoded` was made of
    """

    task: Task
    decoded: Tensor
    height: int
    width: int
    check: Check = never
    """Called before each band."""
    scores: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """[H, W], of normals [H, W, 3]."""
        return (self.height, self.width, 3)[: 3 if TRAITS[self.task].decode is Decode.UNIT_VECTOR else 2]

    @property
    def nbytes(self) -> int:
        """Of all rows."""
        return math.prod(self.shape) * (1 if TRAITS[self.task].decode is Decode.ARGMAX else 4)

    def bands(self, top: int = 0, bottom: int | None = None) -> Iterator[Map]:
        """Some rows at a time, from `top` to before `bottom`: uint8 [h, W], float32 [h, W], or float32 [h, W, 3]."""
        bottom = self.height if bottom is None else bottom
        for begin, end in bands_of_rows(top, bottom, max(self.width, self.decoded.shape[-1])):
            self.check()
            yield self._rows(begin, end)

    def whole(self) -> Map:
        """All rows in one array of its own."""
        classes = TRAITS[self.task].decode is Decode.ARGMAX
        values: Map = np.empty(self.shape, np.uint8) if classes else np.empty(self.shape, np.float32)
        top = 0
        for band in self.bands():
            values[top : top + len(band)] = band
            top += len(band)
        return values

    def decide(self, top: int, bottom: int, out: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Write rows of a class map by its scores to out [bottom - top, W]; the pixels of each class, int64 [256]."""
        if self.scores is None:
            raise MTLoRAError(f"this map of task {self.task} has no scores to decide by")
        scores, decoded = self.scores.float().cpu(), self.decoded.cpu()
        room = torch.from_numpy(out)
        _, counts = decide_classes(scores, decoded, self.height, self.width, top, bottom, room)
        return counts.numpy()

    def _rows(self, top: int, bottom: int) -> Map:
        match TRAITS[self.task].decode:
            case Decode.ARGMAX if self.scores is not None:
                decided = np.empty((bottom - top, self.width), np.uint8)
                self.decide(top, bottom, decided)
                return decided
            case Decode.ARGMAX:
                rows = nearest(self.decoded.shape[0], self.height)[top:bottom].numpy()
                indices: NDArray[np.uint8] = self.decoded.cpu().numpy()
                return indices.take(rows, axis=0).take(nearest(self.decoded.shape[1], self.width).numpy(), axis=1)
            case Decode.UNIT_VECTOR:
                return unit_vectors(enlarged_rows(self.decoded, top, bottom, self.height, self.width)).cpu().numpy()
            case Decode.SIGMOID | Decode.IDENTITY:
                return enlarged_rows(self.decoded[None], top, bottom, self.height, self.width)[0].cpu().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class WholeMap:
    """A map that is in memory already, as one band."""

    values: Map
    check: Check = never

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the array."""
        return self.values.shape

    @property
    def nbytes(self) -> int:
        """As of the array."""
        return self.values.nbytes

    def bands(self, top: int = 0, bottom: int | None = None) -> Iterator[Map]:
        """All rows, or those from `top` to before `bottom`."""
        yield self.values[top:bottom]


def photo_map(
    task: Task, coarse: Tensor, side: int | Size, size: Size, check: Check = never, *, nearest_edges: bool = False
) -> PhotoMap:
    """The map of a photo of size (height, width), of a decoder's logits: float [K, h, w].

    side:          of the model's input; height and width of what tiles of it cover together
    nearest_edges: class maps are those of the model's size enlarged; else, for photos that are wider or higher than
                   that, they are decided at the photo's size
    """
    decoded = decode_coarse(task, coarse, side)
    is_larger = any(asked > own for asked, own in zip(size, sides_of(side), strict=True))
    by_scores = TRAITS[task].decode is Decode.ARGMAX and not nearest_edges and is_larger
    return PhotoMap(task, decoded, *size, check, coarse if by_scores else None)


def at_photo_size(task: Task, decoded: Tensor, height: int, width: int) -> Map:
    """A decoded map enlarged as it is, in an array of its own: uint8 [H, W], float32 [H, W], or float32 [H, W, 3]."""
    return PhotoMap(task, decoded, height, width).whole()
