"""A picture for people: the photo with one task's map over it."""

import io

import numpy as np
from PIL import Image

from mtlora.outputs import Map
from mtlora.png import COMPRESS_LEVEL, normals_to_rgb, palette
from mtlora.spec import TaskSpec
from mtlora.tasks import TRAITS, Decode

OPACITY = 0.6
BACKGROUND = "background"
HIGHLIGHT = (255, 64, 0)


def blend(photo: Image.Image, values: Map, spec: TaskSpec) -> bytes:
    """PNG of the photo's size.

    Class maps: the classes' colours, the background clear. Saliency and edges: a red veil as strong as the value.
    Normals: their colours. Depth: grey from near to far.
    """
    kind = TRAITS[spec.task].decode
    if kind is Decode.ARGMAX:
        index = Image.fromarray(values.astype(np.uint8, copy=False), "L")
        clear = {i for i, known in enumerate(spec.classes) if known.name == BACKGROUND}
        veil = index.point([0 if i in clear else round(255 * OPACITY) for i in range(256)])
        index.putpalette(palette(spec))
        top = index.convert("RGB")
    elif kind is Decode.SIGMOID:
        veil = Image.fromarray((values * (255 * OPACITY)).astype(np.uint8), "L")
        top = Image.new("RGB", photo.size, HIGHLIGHT)
    elif kind is Decode.UNIT_VECTOR:
        veil = Image.new("L", photo.size, round(255 * OPACITY))
        top = Image.fromarray(normals_to_rgb(values.astype(np.float32, copy=False)), "RGB")
    else:
        veil = Image.new("L", photo.size, round(255 * OPACITY))
        span = float(values.max() - values.min()) or 1.0
        top = Image.fromarray(((values - values.min()) * (255 / span)).astype(np.uint8), "L").convert("RGB")
    buffer = io.BytesIO()
    Image.composite(top, photo, veil).save(buffer, "PNG", compress_level=COMPRESS_LEVEL)
    return buffer.getvalue()
