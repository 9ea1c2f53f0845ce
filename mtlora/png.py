"""Maps as PNG, in the field's conventions; level 1, because level 9 takes twenty times as long for a few percent."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from mtlora.errors import ImageError
from mtlora.outputs import Map
from mtlora.spec import TaskSpec
from mtlora.tasks import Task, voc_color

COMPRESS_LEVEL = 1
_MAX_16_BIT = 65535

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
    """A map as PNG bytes.

    encoding: `png-palette` (8 bit, value = class id, colours of the set), `png-gray` (8 bit, 255 p), `png-rgb`
              (round((n + 1) * 127.5)), `png-gray16` (16 bit, 0 = minimum, 65535 = maximum)
    minimum, maximum: what the ends of the grey scale stand for; for palettes and colours both 0
    """

    png: bytes
    encoding: str
    minimum: float = 0.0
    maximum: float = 0.0


def encode_map(values: Map, spec: TaskSpec) -> EncodedMap:
    """One map (see `outputs`) as PNG of the same size."""
    encoding = ENCODINGS[spec.task]
    if values.ndim != (3 if spec.task is Task.NORMALS else 2):
        raise ImageError(f"a map of task {spec.task} cannot have shape {values.shape}")
    if encoding == "png-palette":
        return EncodedMap(_palette(values.astype(np.uint8, copy=False), spec), encoding)
    if encoding == "png-gray":
        return EncodedMap(_png(Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8))), encoding, 0, 1)
    if encoding == "png-rgb":
        return EncodedMap(_png(Image.fromarray(normals_to_rgb(values.astype(np.float32, copy=False)))), encoding)
    return _deep_grey(values, encoding)


def normals_to_rgb(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Unit vectors float32 [H, W, 3] to colours uint8 [H, W, 3]: round((n + 1) * 127.5)."""
    colors: NDArray[np.uint8] = np.rint(normals * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
    return colors


def palette(spec: TaskSpec) -> list[int]:
    """256 colours as red, green, blue in turn: the classes' own, then those of the VOC palette (255: ignored)."""
    colors = [c.color for c in spec.classes] + [voc_color(index) for index in range(len(spec.classes), 256)]
    return [part for color in colors for part in color]


def _palette(indices: NDArray[np.uint8], spec: TaskSpec) -> bytes:
    image = Image.fromarray(indices, "L")
    image.putpalette(palette(spec))  # turns "L" into "P" and leaves the values alone
    return _png(image)


def _deep_grey(values: Map, encoding: str) -> EncodedMap:
    """16-bit grey between the map's own extremes, which the file states as text chunks `minimum` and `maximum`."""
    low, high = float(values.min()), float(values.max())
    scale = _MAX_16_BIT / (high - low) if high > low else 0.0
    grey = ((values - low) * scale).round().astype(np.uint16)
    text = PngImagePlugin.PngInfo()
    text.add_text("minimum", repr(low))
    text.add_text("maximum", repr(high))
    return EncodedMap(_png(Image.fromarray(grey), text), encoding, low, high)


def _png(image: Image.Image, text: PngImagePlugin.PngInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=COMPRESS_LEVEL, pnginfo=text)
    return buffer.getvalue()
