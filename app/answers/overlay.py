"""A picture for people: the photo with one task's map over it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlora.maps.map_png import Painting, palette
from mtlora.maps.png_writer import banded_png
from mtlora.ops.torch_ops import bands_of_rows
from mtlora.vocabulary.tasks import TRAITS, Decode

OPACITY = 0.6
BACKGROUND = "background"
HIGHLIGHT = (255, 64, 0)


def blend(photo: NDArray[np.uint8], painting: Painting) -> list[bytes]:
    """A PNG of the photo's size, in pieces; photo uint8 [H, W, 3], of which some rows are blended at a time.

    Class maps: the classes' colours, the background clear. Saliency and edges: a red veil as strong as the value.
    Normals: their colours. Depth: grey from near to far.
    """
    width = photo.shape[1]

    def fill(top: int, bottom: int, out: NDArray[Any]) -> None:
        for begin, end in bands_of_rows(top, bottom, width):
            pixels = np.empty((end - begin, *painting.shape[1:]), painting.dtype)
            painting.fill(begin, end, pixels)
            out[begin - top : end - top] = _blended(Image.fromarray(photo[begin:end]), pixels, painting)

    return banded_png(fill, photo.shape, photo.dtype, check=painting.check).pieces()


def _blended(photo: Image.Image, pixels: NDArray[Any], painting: Painting) -> NDArray[np.uint8]:
    kind = TRAITS[painting.spec.task].decode
    top = Image.fromarray(pixels if kind is not Decode.IDENTITY else (pixels >> 8).astype(np.uint8))
    if kind is Decode.ARGMAX:
        clear = {i for i, known in enumerate(painting.spec.classes) if known.name == BACKGROUND}
        veil = top.point([0 if i in clear else round(255 * OPACITY) for i in range(256)])
        top.putpalette(palette(painting.spec))
    elif kind is Decode.SIGMOID:
        veil = top.point([round(i * OPACITY) for i in range(256)])
        top = Image.new("RGB", photo.size, HIGHLIGHT)
    else:
        veil = Image.new("L", photo.size, round(255 * OPACITY))
    return np.asarray(Image.composite(top.convert("RGB"), photo, veil))
