"""A class map as a plain grey picture: a pixel's value is its class, for readers that unfold palettes."""

from app.answers.form import Pieces
from app.answers.plan import Extent, RenderPlan, filtered_bytes
from app.answers.subject import Subject
from mtlora.maps.map_png import Painting
from mtlora.maps.png_writer import banded_png


def to_ids(subject: Subject) -> Pieces:
    """An 8-bit grey PNG without a palette."""
    painting = Painting(subject.source, subject.spec)
    return [*banded_png(painting.fill, painting.shape, painting.dtype, check=painting.check).pieces()]


def ids_bytes(extent: Extent, _: RenderPlan) -> int:
    """Of the PNG at its worst."""
    return filtered_bytes(extent, 1)
