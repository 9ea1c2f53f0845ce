"""Maps as PNG, in the field's conventions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mtlora.errors import ImageError, MTLoRAError
from mtlora.inference import map_ops, plain_ops
from mtlora.inference.operands import native_for, want, want_size
from mtlora.outputs import Map, PhotoMap, WholeMap
from mtlora.png_file import Png, color_png, native_stripe, pack, png
from mtlora.spec import TaskSpec
from mtlora.tasks import TRAITS, Decode, Task, voc_color

P = TypeVar("P", np.uint8, np.uint16)

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


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """A map as the pixels of its PNG, and what is worth knowing of the values that they stand for."""

    pixels: NDArray[np.uint8] | NDArray[np.uint16]  # [H, W], of normals [H, W, 3]
    minimum: float = 0.0  # of the values; of classes and normals 0
    maximum: float = 0.0
    mean: float = 0.0  # of depth; of saliency and edges that of what the pixels stand for
    counts: tuple[int, ...] = ()  # of class maps: pixels of each index from 0 to 255


def encode_map(values: Map, spec: TaskSpec) -> EncodedMap:
    """One map (see `outputs`) as PNG of the same size."""
    return encode(paint(WholeMap(values), spec), spec)


def paint(source: PhotoMap | WholeMap, spec: TaskSpec) -> Painted:
    """The pixels of a map, made band by band: the floats of a whole photo are never in memory."""
    if len(source.shape) != (3 if spec.task is Task.NORMALS else 2):
        raise ImageError(f"a map of task {spec.task} cannot have shape {source.shape}")
    match TRAITS[spec.task].decode:
        case Decode.ARGMAX:
            return _paint_classes(source)
        case Decode.UNIT_VECTOR:
            return Painted(_colors(source))
        case Decode.SIGMOID:
            pixels = _greys(source)
            total = int(pixels.sum(axis=1, dtype=np.uint32).sum(dtype=np.uint64))  # a third of what `mean` takes
            return Painted(pixels, 0.0, 1.0, total / pixels.size / _MAX_8_BIT)
        case Decode.IDENTITY:
            return _paint_deep(source)


def encode(painted: Painted, spec: TaskSpec) -> EncodedMap:
    """Pixels as PNG. 16-bit grey states what its ends stand for as text chunks `minimum` and `maximum`."""
    encoding = ENCODINGS[spec.task]
    colors = bytes(palette(spec)) if encoding == "png-palette" else b""
    deep = encoding == "png-gray16"
    text = {"minimum": repr(painted.minimum), "maximum": repr(painted.maximum)} if deep else None
    return EncodedMap(png(painted.pixels, colors, text), encoding, painted.minimum, painted.maximum)


def encode_normals(coarse: torch.Tensor, side: int, height: int, width: int, top: int, bottom: int) -> EncodedMap:
    """Rows of a map of normals, straight from the decoder: the pixels that `paint` makes, never all of them at once.

    coarse: float [3, h, w]
    side:   of the model's input, at which the vectors are made unit length, as in `decode_coarse`
    top, bottom: the first row, and the one behind the last. Maps of all rows, put together by `above`, are the whole.
    """
    want(coarse.ndim == 3 and coarse.shape[0] == 3 and coarse.numel() > 0, "coarse", "[3, h, w]", coarse)
    want_size(side, side)
    want_size(height, width)
    if not 0 <= top < bottom <= height:
        raise MTLoRAError(f"rows must be some of 0 to {height}, got {top} to {bottom}")
    source, (h, w) = coarse.float().contiguous(), coarse.shape[1:]
    native = native_for(source)
    if native is None:
        first = max(0, top - 1)
        painted = plain_ops.paint_normals(source, side, height, width, first, bottom).cpu().numpy()
        rows = painted.reshape(bottom - first, -1)
        stripe = pack(rows, 3, top - first, bottom - first, last=bottom == height)
    else:
        stripe = native_stripe(
            lambda out, checksum: native.pack_normals(
                source.data_ptr(), out, checksum, h, w, side, height, width, top, bottom
            ),
            bottom - top,
            3 * width,
        )
    return EncodedMap(color_png(width, height, [stripe]), ENCODINGS[Task.NORMALS])


def normals_to_rgb(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Unit vectors float32 [H, W, 3] to colours uint8 [H, W, 3]: round((n + 1) * 127.5)."""
    colors: NDArray[np.uint8] = np.rint(normals * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
    return colors


def palette(spec: TaskSpec) -> list[int]:
    """256 colours as red, green, blue in turn: the classes' own, then those of the VOC palette (255: ignored)."""
    own = [part for known in spec.classes for part in known.color]
    return own + _VOC[len(own) :]


def _paint_classes(source: PhotoMap | WholeMap) -> Painted:
    if isinstance(source, WholeMap):
        decoded = torch.from_numpy(np.ascontiguousarray(source.values, np.uint8))
    else:
        decoded = source.decoded
    pixels, counts = map_ops.enlarge_classes(decoded, *source.shape)
    return Painted(pixels.cpu().numpy(), counts=tuple(counts.tolist()))


def _colors(source: PhotoMap | WholeMap) -> NDArray[np.uint8]:
    if isinstance(source, WholeMap):
        return normals_to_rgb(source.values.astype(np.float32, copy=False))
    colors: NDArray[np.uint8] = map_ops.quantise_normals(source.decoded, source.height, source.width).cpu().numpy()
    return colors


def _greys(source: PhotoMap | WholeMap) -> NDArray[np.uint8]:
    if isinstance(source, WholeMap):
        return (source.values * _MAX_8_BIT).round().clip(0, _MAX_8_BIT).astype(np.uint8)
    greys: NDArray[np.uint8] = map_ops.saliency_to_gray(source.decoded, source.height, source.width).cpu().numpy()
    return greys


def _paint_deep(source: PhotoMap | WholeMap) -> Painted:
    """16-bit grey between the map's own extremes, for which it is made twice."""
    low, high, total = float("inf"), float("-inf"), 0.0
    for band in source.bands():
        low, high = min(low, float(band.min())), max(high, float(band.max()))
        total += float(band.sum(dtype=np.float64))
    scale = _MAX_16_BIT / (high - low) if high > low else 0.0
    pixels = _assemble(source, lambda band: ((band - low) * scale).round().astype(np.uint16))
    return Painted(pixels, low, high, total / pixels.size)


def _assemble(source: PhotoMap | WholeMap, convert: Callable[[Map], NDArray[P]]) -> NDArray[P]:
    """All bands, converted, in one array."""
    pixels: NDArray[P] | None = None
    top = 0
    for band in map(convert, source.bands()):
        if pixels is None:
            pixels = np.empty(source.shape, band.dtype)
        pixels[top : top + len(band)] = band
        top += len(band)
    if pixels is None:
        raise ImageError(f"a map of shape {source.shape} has no rows")
    return pixels
