"""Maps as PNG, in the field's conventions."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtlora.kernels import Kernels
from mtlora.maps.png_writer import NativePacking, Png, banded_png, bands_to_pack, color_png, pack_filled
from mtlora.maps.postprocessing import Map, PhotoMap, Size, WholeMap, sides_of
from mtlora.ops import map_ops
from mtlora.ops.operands import native_for, want, want_size
from mtlora.ops.torch_ops import nearest
from mtlora.vocabulary.errors import ImageError, MTLoRAError
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.stopping import Check, never
from mtlora.vocabulary.tasks import TRAITS, Decode, Task, voc_color

Rows = Callable[[int, int, NDArray[Any]], None]

_MAX_8_BIT, _MAX_16_BIT = 255, 65535
_VOC = [part for index in range(256) for part in voc_color(index)]

ENCODINGS = {
    Task.SEMSEG: "png-palette",
    Task.HUMAN_PARTS: "png-palette",
    Task.SALIENCY: "png-gray",
    Task.EDGE: "png-gray",
    Task.NORMALS: "png-rgb",
    Task.DEPTH: "png-gray16",
}


@dataclass(frozen=True, slots=True)
class EncodedMap:
    """A map as a PNG.

    encoding: `png-palette` (8 bit, value = class id, colours of the set), `png-gray` (8 bit, 255 p), `png-rgb`
              (round((n + 1) * 127.5)), `png-gray16` (16 bit, 0 = minimum, 65535 = maximum)
    minimum, maximum: what the ends of the grey scale stand for; for palettes and colours both 0
    """

    picture: Png
    encoding: str
    minimum: float = 0.0
    maximum: float = 0.0

    @property
    def png(self) -> bytes:
        """The file; put together anew each time."""
        return self.picture.file()

    def above(self, other: "EncodedMap") -> "EncodedMap":
        """This one and what was encoded of the same map below it."""
        return replace(self, picture=replace(self.picture, stripes=self.picture.stripes + other.picture.stripes))


class Painting:
    """A map as the pixels of its PNG, rows at a time: all of them are never in memory. And what they stand for.

    shape:  [H, W], of normals [H, W, 3]
    minimum, maximum: of the values; of classes and normals 0
    counts: of class maps: pixels of each index from 0 to 255; by scores, once the pixels have been made
    """

    def __init__(self, source: PhotoMap | WholeMap, spec: TaskSpec) -> None:
        if len(source.shape) != (3 if spec.task is Task.NORMALS else 2):
            raise ImageError(f"a map of task {spec.task} cannot have shape {source.shape}")
        self.spec = spec
        self.shape = source.shape
        self.check = source.check
        self.minimum = self.maximum = 0.0
        self.counts: tuple[int, ...] = ()
        self._total = self._pixels = 0.0
        self._unit = 1
        self._rows: Rows
        match TRAITS[spec.task].decode:
            case Decode.ARGMAX:
                if isinstance(source, PhotoMap) and source.scores is not None:
                    self._rows, self.counts = partial(self._decide, source), (0,) * (_MAX_8_BIT + 1)
                else:
                    self._rows, self.counts = _class_rows(source)
            case Decode.UNIT_VECTOR:
                self._rows = partial(_color_rows, source)
            case Decode.SIGMOID:
                self._rows, self.maximum, self._unit = partial(_grey_rows, source), 1.0, _MAX_8_BIT
            case Decode.IDENTITY:
                self.minimum, self.maximum, self._total = _extremes(source)
                self._pixels = math.prod(self.shape)
                self._rows = partial(_deep_rows, source, self.minimum, self.maximum)

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Of the pixels: uint8 or, of depth, uint16."""
        return np.dtype(np.uint16 if TRAITS[self.spec.task].decode is Decode.IDENTITY else np.uint8)

    @property
    def mean(self) -> float:
        """Of depth; of saliency and edges that of what the pixels stand for, once they have been made."""
        return self._total / self._pixels / self._unit if self._pixels else 0.0

    def fill(self, top: int, bottom: int, out: NDArray[Any]) -> None:
        """Write the pixels from row `top` to before `bottom` to out [bottom - top, W] or [bottom - top, W, 3]."""
        self._rows(top, bottom, out)
        if TRAITS[self.spec.task].decode is Decode.SIGMOID:
            # row by row: a third of what `mean` takes
            self._total += int(out.sum(axis=1, dtype=np.uint32).sum(dtype=np.uint64))
            self._pixels += out.size

    def _decide(self, source: PhotoMap, top: int, bottom: int, out: NDArray[Any]) -> None:
        found = source.decide(top, bottom, out)
        self.counts = tuple(map(add, self.counts, found.tolist()))

    def bands(self) -> Iterator[NDArray[Any]]:
        """All pixels, some rows at a time, for whoever wants no PNG. The next band takes the place of the last."""
        height, width = self.shape[:2]
        bands = list(bands_to_pack(0, height, width * self.dtype.itemsize * math.prod(self.shape[2:])))
        room = np.empty((bands[0][1], *self.shape[1:]), self.dtype)
        for top, bottom in bands:
            self.check()
            self.fill(top, bottom, room[: bottom - top])
            yield room[: bottom - top]

    def whole(self) -> NDArray[Any]:
        """All pixels in one array."""
        return np.concatenate([band.copy() for band in self.bands()])


def encode_map(values: Map, spec: TaskSpec) -> EncodedMap:
    """One map (see `outputs`) as PNG of the same size."""
    return encode(Painting(WholeMap(values), spec))


def encode(painting: Painting) -> EncodedMap:
    """Pixels as PNG. 16-bit grey states what its ends stand for as text chunks `minimum` and `maximum`."""
    encoding = ENCODINGS[painting.spec.task]
    colors = bytes(palette(painting.spec)) if encoding == "png-palette" else b""
    ends = {"minimum": repr(painting.minimum), "maximum": repr(painting.maximum)}
    picture = banded_png(
        painting.fill,
        painting.shape,
        painting.dtype,
        palette=colors,
        text=ends if encoding == "png-gray16" else None,
        check=painting.check,
    )
    return EncodedMap(picture, encoding, painting.minimum, painting.maximum)


def encode_normals(
    coarse: torch.Tensor,
    model_size: int | Size,
    height: int,
    width: int,
    top: int,
    bottom: int,
    check: Check = never,
) -> EncodedMap:
    """Rows of a map of normals, straight from the decoder: the pixels of `Painting`, never all of them at once.

    coarse: float [3, h, w]
    model_size: at which the vectors are made unit length, see `decode_coarse`
    top, bottom: the first row, and the one behind the last. Maps of all rows, put together by `above`, are the whole.
    """
    want(coarse.ndim == 3 and coarse.shape[0] == 3 and coarse.numel() > 0, "coarse", "[3, h, w]", coarse)
    rows, columns = sides_of(model_size)
    want_size(rows, columns)
    want_size(height, width)
    if not 0 <= top < bottom <= height:
        raise MTLoRAError(f"rows must be some of 0 to {height}, got {top} to {bottom}")
    source = coarse.float().contiguous()
    native = native_for(source)
    if native is None:
        vectors = map_ops.unit_normals(source, rows, columns)

        def fill(begin: int, end: int, out: NDArray[Any]) -> None:
            colors = map_ops.quantise_normals(vectors, height, width, begin, end)
            out[...] = colors.cpu().numpy().reshape(out.shape)

        stripe = pack_filled(fill, 3 * width, 3, top, bottom, height=height, check=check)
    else:
        packing = NativePacking(native, 3 * width, 3)
        for begin, end in bands_to_pack(top, bottom, 3 * width, 3 * columns):
            check()
            sizes = (*source.shape[1:], rows, columns, height, width, begin, end)
            packing.run(partial(_pack_normals, native, source, sizes), end - begin)
        stripe = packing.stripe()
    return EncodedMap(color_png(width, height, [stripe]), ENCODINGS[Task.NORMALS])


def normals_to_rgb(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Unit vectors float32 [H, W, 3] to colours uint8 [H, W, 3]: round((n + 1) * 127.5)."""
    colors: NDArray[np.uint8] = np.rint(normals * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
    return colors


def palette(spec: TaskSpec) -> list[int]:
    """256 colours as red, green, blue in turn: the classes' own, then those of the VOC palette (255: ignored)."""
    own = [part for known in spec.classes for part in known.color]
    return own + _VOC[len(own) :]


def _pack_normals(native: Kernels, coarse: torch.Tensor, sizes: tuple[int, ...], out: int, checksum: int) -> int:
    return native.pack_normals(coarse.data_ptr(), out, checksum, *sizes)


def _class_rows(source: PhotoMap | WholeMap) -> tuple[Rows, tuple[int, ...]]:
    """Rows of the nearest pixels, and how many there are of each class. Only every row that is made is widened."""
    height, width = source.shape
    if isinstance(source, WholeMap):
        small = torch.from_numpy(np.ascontiguousarray(source.values, np.uint8))
    else:
        small = source.decoded.cpu()
    at = nearest(len(small), height)
    if height < len(small):
        small, at = small[at], torch.arange(height)
    wide, counts = map_ops.enlarge_classes(small, len(small), width)
    if height != len(small):
        times = torch.outer(
            at.bincount(minlength=len(small)), nearest(small.shape[1], width).bincount(minlength=small.shape[1])
        )
        counts = torch.zeros(256, dtype=torch.int64).scatter_add_(0, small.flatten().long(), times.flatten())
    rows, pixels = at.numpy(), wide.numpy()

    def fill(top: int, bottom: int, out: NDArray[Any]) -> None:
        np.take(pixels, rows[top:bottom], axis=0, out=out, mode="clip")

    return fill, tuple(counts.tolist())


def _color_rows(source: PhotoMap | WholeMap, top: int, bottom: int, out: NDArray[Any]) -> None:
    if isinstance(source, WholeMap):
        out[...] = normals_to_rgb(source.values[top:bottom].astype(np.float32, copy=False))
    else:
        out[...] = map_ops.quantise_normals(source.decoded, source.height, source.width, top, bottom).cpu().numpy()


def _grey_rows(source: PhotoMap | WholeMap, top: int, bottom: int, out: NDArray[Any]) -> None:
    if isinstance(source, WholeMap):
        out[...] = (source.values[top:bottom] * _MAX_8_BIT).round().clip(0, _MAX_8_BIT)
    else:
        out[...] = map_ops.saliency_to_gray(source.decoded, source.height, source.width, top, bottom).cpu().numpy()


def _extremes(source: PhotoMap | WholeMap) -> tuple[float, float, float]:
    """Least and greatest value, and the sum of all: what 16-bit grey lies between, for which the map is made twice."""
    low, high, total = float("inf"), float("-inf"), 0.0
    for band in source.bands():
        low, high = min(low, float(band.min())), max(high, float(band.max()))
        total += float(band.sum(dtype=np.float64))
    return low, high, total


def _deep_rows(source: PhotoMap | WholeMap, low: float, high: float, top: int, bottom: int, out: NDArray[Any]) -> None:
    scale, at = _MAX_16_BIT / (high - low) if high > low else 0.0, 0
    for band in source.bands(top, bottom):
        out[at : at + len(band)] = ((band - low) * scale).round()
        at += len(band)
