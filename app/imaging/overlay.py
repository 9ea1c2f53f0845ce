"""A picture for people: the photo with one task's map over it."""

import numpy as np
from PIL import Image

from mtlora.png import Painted, palette
from mtlora.png_file import png_file
from mtlora.spec import TaskSpec
from mtlora.tasks import TRAITS, Decode

OPACITY = 0.6
BACKGROUND = "background"
HIGHLIGHT = (255, 64, 0)


def blend(photo: Image.Image, painted: Painted, spec: TaskSpec) -> bytes:
    """PNG of the photo's size.

    Class maps: the classes' colours, the background clear. Saliency and edges: a red veil as strong as the value.
    Normals: their colours. Depth: grey from near to far.
    """
    kind = TRAITS[spec.task].decode
    top = Image.fromarray(painted.pixels if kind is not Decode.IDENTITY else (painted.pixels >> 8).astype(np.uint8))
    if kind is Decode.ARGMAX:
        clear = {i for i, known in enumerate(spec.classes) if known.name == BACKGROUND}
        veil = top.point([0 if i in clear else round(255 * OPACITY) for i in range(256)])
        top.putpalette(palette(spec))
    elif kind is Decode.SIGMOID:
        veil = top.point([round(i * OPACITY) for i in range(256)])
        top = Image.new("RGB", photo.size, HIGHLIGHT)
    else:
        veil = Image.new("L", photo.size, round(255 * OPACITY))
    return png_file(np.asarray(Image.composite(top.convert("RGB"), photo, veil)))
