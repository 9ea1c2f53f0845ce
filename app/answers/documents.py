"""JSON of one image's answer: what maps hold, and the maps as PNGs within it."""

import math
from collections.abc import Callable

import numpy as np
import pybase64
from numpy.typing import NDArray

from app.answers.form import Document, Pieces, to_json
from app.answers.rendered import Rendered
from app.core.errors import NotAcceptableError
from mtlora.annotations.outlines import class_polygons
from mtlora.annotations.run_lengths import class_rle, find_runs
from mtlora.maps.map_png import Painting
from mtlora.vocabulary.errors import OutlineError
from mtlora.vocabulary.tasks import TRAITS, Decode


def begun(rendered: Rendered, *, with_png: bool = True) -> Pieces:
    """Pieces of the JSON of one image's answer, up to where it says what is known last.

    with_png: whether maps that were encoded are in it
    """
    pieces: Pieces = [*_sizes(rendered), b',"tasks":{']
    for number, (task, facts) in enumerate(rendered.documents.items()):
        pieces += [b"," if number else b"", b'"', task.value.encode(), b'":']
        if task in rendered.maps:
            encoded = rendered.maps[task]
            pieces += [to_json({"encoding": encoded.encoding})[:-1], b","]
            if with_png:
                # Put in as it is: a string of a megabyte would be searched for what must be escaped, and copied.
                pieces += [b'"png":"', pybase64.b64encode(encoded.png), b'",']
                del rendered.maps[task], encoded
            facts = facts[1:]
        pieces.append(facts)
    return [*pieces, b"},"]


def _sizes(rendered: Rendered) -> Pieces:
    """Of the photo, and of maps that are not as large; how the photo was turned, where it was."""
    maps = {"width": rendered.width, "height": rendered.height}
    width, height = rendered.photo_size or (rendered.width, rendered.height)
    turned = {"orientation": rendered.orientation} if rendered.orientation != 1 else {}
    pieces: Pieces = [b'{"image":', to_json({"width": width, "height": height, **turned})]
    return [*pieces, b',"maps":', to_json(maps)] if rendered.photo_size else pieces


def closed(pieces: Pieces, about: Callable[[], Document]) -> Pieces:
    return [*pieces, to_json(about())[1:]]


def facts_of(painting: Painting, labels: NDArray[np.uint8] | None, *, rle: bool) -> Document:
    """What is worth knowing about a map without looking at it.

    labels: all pixels of a class map, uint8 [H, W], where its masks are wanted
    rle:    as run lengths; else as polygons
    """
    kind = TRAITS[painting.spec.task].decode
    if kind is Decode.ARGMAX:
        return {"classes": _classes(painting, labels, rle=rle)}
    if kind is Decode.SIGMOID:
        return {"mean": round(painting.mean, 6)}
    return {"minimum": painting.minimum, "maximum": painting.maximum, "mean": painting.mean}


def _classes(painting: Painting, labels: NDArray[np.uint8] | None, *, rle: bool) -> list[Document]:
    """The classes that are present, by id."""
    runs = find_runs(labels, painting.check) if labels is not None and rle else None
    listed: list[Document] = []
    for index, known in enumerate(painting.spec.classes):
        pixels = painting.counts[index]
        if not pixels:
            continue
        fraction = round(pixels / math.prod(painting.shape), 6)
        listed.append(
            {"id": index, "name": known.name, "color": list(known.color), "pixels": pixels, "fraction": fraction}
        )
        painting.check()
        if runs is not None:
            listed[-1]["rle"] = class_rle(runs, index)
        elif labels is not None:
            listed[-1]["polygons"] = _polygons(labels, index)
    return listed


def _polygons(labels: NDArray[np.uint8], index: int) -> list[Document]:
    try:
        return class_polygons(labels, index)
    except OutlineError as error:
        raise NotAcceptableError(f"{error}: ask for masks=rle or a smaller size") from None
