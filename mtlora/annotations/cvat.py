"""Masks for CVAT: shapes of its API, and its XML 1.1 for images."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from mtlora.annotations.box_runs import cut_out
from mtlora.annotations.predicted import PredictedPhoto


def cvat_shape(inside: NDArray[np.bool_], name: str, score: float) -> dict[str, Any]:
    """A shape of type `mask`, bool [H, W]: its runs within its box, then the box's corners."""
    box = cut_out(inside)
    height, width = box.pixels.shape
    return {
        "type": "mask",
        "label": name,
        "frame": 0,
        "points": [*box.counts, box.left, box.top, box.left + width - 1, box.top + height - 1],
        "occluded": False,
        "z_order": 0,
        "source": "auto",
        "score": score,
        "attributes": [],
    }


def to_xml(photos: Iterable[PredictedPhoto], classes: Sequence[str]) -> Iterator[str]:
    """The pieces of an XML file of CVAT 1.1 (for images), a mask for each class of each photo.

    classes: names of all labels
    """
    labels = "".join(f"<label><name>{escape(name)}</name><attributes/></label>" for name in classes)
    yield (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><job><labels>{labels}</labels></job></meta>\n"
    )
    for number, photo in enumerate(photos):
        height, width = photo.labels.shape
        yield f'<image id="{number}" name={quoteattr(photo.name)} width="{width}" height="{height}">\n'
        for mask in photo.masks:
            box = cut_out(mask.inside)
            runs = ", ".join(map(str, box.counts))
            yield (
                f'<mask label={quoteattr(mask.name)} source="auto" occluded="0" rle="{runs}" left="{box.left}" '
                f'top="{box.top}" width="{box.pixels.shape[1]}" height="{box.pixels.shape[0]}" z_order="0"></mask>\n'
            )
        yield "</image>\n"
    yield "</annotations>\n"
