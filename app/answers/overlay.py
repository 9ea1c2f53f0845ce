"""A picture for people: the photo with one task's map over it, as a veil or as outlines."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.answers.form import Pieces
from app.answers.plan import CONTOUR, PLAIN, Extent, RenderPlan
from app.answers.subject import Subject
from app.answers.vivid import vivid_colors
from app.core.errors import NotAcceptableError
from mtlora.maps.map_png import Painting, palette
from mtlora.maps.png_writer import banded_png
from mtlora.ops.torch_ops import bands_of_rows
from mtlora.vocabulary.tasks import TRAITS, Decode

OPACITY, THIN = 0.6, 0.25
BACKGROUND = "background"
HIGHLIGHT = (255, 64, 0)
QUALITY = 88  # of JPEG and WebP
_OUTLINE_SHARE = 400  # of the longer side: how wide outlines are
_HALF = 128
_WRITERS = {"image/jpeg": ("JPEG", 65_535), "image/webp": ("WEBP", 16_383)}  # and the longest side that they can say
_PNG_BYTES, _LOSSY_BYTES, _RESIZED_BYTES = 12, 20, 8  # the photo, decoded for it (4 and 3), and a picture at its worst


def to_overlay(subject: Subject) -> Pieces:
    """A picture of the map's size, in pieces, of the kind that the plan says.

    Class maps: the classes' colours, the background clear. Saliency and edges: a red veil as strong as the value.
    Normals: their colours. Depth: grey from near to far. With outlines: what has edges in vivid colours, thinly
    filled. Plain: the photo as the server saw it, without any map.
    """
    if subject.photo is None:
        raise ValueError("an overlay needs the photo")
    painting = None if subject.plan.style == PLAIN else Painting(subject.source, subject.spec)
    photo = _resized(subject.photo(), (subject.source.width, subject.source.height))
    with_outlines = subject.plan.style == CONTOUR and TRAITS[subject.spec.task].decode in {
        Decode.ARGMAX,
        Decode.SIGMOID,
    }
    media = subject.plan.media
    if media not in _WRITERS:
        return _plain(subject, photo) if painting is None else blend(photo, painting, contours=with_outlines)
    form, most = _WRITERS[media]
    if max(photo.shape) > most:
        raise NotAcceptableError(f"{media} has sides of up to {most} pixels, this overlay has {photo.shape[1::-1]}")
    painted = photo if painting is None else np.empty_like(photo)
    if painting is not None:
        _fill(photo, painting, 0, len(photo), painted, contours=with_outlines)
    buffer = io.BytesIO()
    Image.fromarray(painted).save(buffer, form, quality=QUALITY, method=2)
    return [buffer.getvalue()]


def overlay_bytes(extent: Extent, plan: RenderPlan) -> int:
    """Of photo and picture."""
    resized = _RESIZED_BYTES if plan.size != "photo" else 0
    return extent.pixels * ((_LOSSY_BYTES if plan.media in _WRITERS else _PNG_BYTES) + resized)


def blend(photo: NDArray[np.uint8], painting: Painting, *, contours: bool = False) -> Pieces:
    """A PNG of the photo's size, in pieces; photo uint8 [H, W, 3], of which some rows are blended at a time."""

    def fill(top: int, bottom: int, out: NDArray[Any]) -> None:
        _fill(photo, painting, top, bottom, out, contours=contours)

    return [*banded_png(fill, photo.shape, photo.dtype, check=painting.check).pieces()]


def _plain(subject: Subject, photo: NDArray[np.uint8]) -> Pieces:
    def fill(top: int, bottom: int, out: NDArray[Any]) -> None:
        out[...] = photo[top:bottom]

    return [*banded_png(fill, photo.shape, photo.dtype, check=subject.source.check).pieces()]


def _fill(
    photo: NDArray[np.uint8], painting: Painting, top: int, bottom: int, out: NDArray[Any], *, contours: bool
) -> None:
    height, width = photo.shape[:2]
    reach = max(1, max(height, width) // _OUTLINE_SHARE) if contours else 0
    for begin, end in bands_of_rows(top, bottom, width):
        first, last = max(0, begin - reach), min(height, end + reach)  # outlines look beyond the band
        pixels = np.empty((last - first, *painting.shape[1:]), painting.dtype)
        painting.fill(first, last, pixels)
        part = photo[begin:end]
        if contours:
            drawn = _outlined(part, pixels, painting, (begin - first, end - first), reach)
        else:
            drawn = _blended(Image.fromarray(part), pixels, painting)
        out[begin - top : end - top] = drawn


def _blended(photo: Image.Image, pixels: NDArray[Any], painting: Painting) -> NDArray[np.uint8]:
    kind = TRAITS[painting.spec.task].decode
    top = Image.fromarray(pixels if kind is not Decode.IDENTITY else (pixels >> 8).astype(np.uint8))
    if kind is Decode.ARGMAX:
        veil = top.point([0 if i in _clear(painting) else round(255 * OPACITY) for i in range(256)])
        top.putpalette(palette(painting.spec))
    elif kind is Decode.SIGMOID:
        veil = top.point([round(i * OPACITY) for i in range(256)])
        top = Image.new("RGB", photo.size, HIGHLIGHT)
    else:
        veil = Image.new("L", photo.size, round(255 * OPACITY))
    return np.asarray(Image.composite(top.convert("RGB"), photo, veil))


def _outlined(
    photo: NDArray[np.uint8], pixels: NDArray[np.uint8], painting: Painting, rows: tuple[int, int], reach: int
) -> NDArray[np.uint8]:
    """A thin fill, and a line where a pixel within `reach` is another class's; the background has neither.

    rows: of `pixels` that are the photo's
    """
    if TRAITS[painting.spec.task].decode is Decode.SIGMOID:
        pixels, clear, colors = (pixels >= _HALF).astype(np.uint8), {0}, np.array([HIGHLIGHT] * 256, np.uint8)
    else:
        clear, colors = _clear(painting), vivid_colors(tuple(known.name for known in painting.spec.classes))
    is_edge = np.zeros(pixels.shape, np.bool_)
    for axis in (0, 1):
        for shift in range(1, reach + 1):
            near, far = (_without(pixels, shift, axis, from_end) for from_end in (True, False))
            differs = near != far
            for from_end in (True, False):
                _without(is_edge, shift, axis, from_end)[...] |= differs
    strength = np.where(is_edge, 1.0, THIN)[rows[0] : rows[1], :, None].astype(np.float32)
    labels = pixels[rows[0] : rows[1]]
    strength *= ~np.isin(labels, list(clear))[..., None]
    mixed = photo + (colors[labels].astype(np.float32) - photo) * strength
    return mixed.round().astype(np.uint8)


def _without(values: NDArray[Any], rows: int, axis: int, from_end: bool) -> NDArray[Any]:
    part = slice(None, -rows) if from_end else slice(rows, None)
    return values[part] if axis == 0 else values[:, part]


def _clear(painting: Painting) -> set[int]:
    return {i for i, known in enumerate(painting.spec.classes) if known.name == BACKGROUND}


def _resized(photo: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if photo.shape[1::-1] == size:
        return photo
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))
