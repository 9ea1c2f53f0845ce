"""Render plans: what a client wants to see, and the photos that would take too much."""

import math
from dataclasses import dataclass

from app.answers.form import AnswerFormat
from app.core.errors import BadParameterError, ImageTooCostlyError
from mtlora.annotations.label_studio import FROM_NAME, TO_NAME
from mtlora.vocabulary.tasks import Task

LABELS_BYTES = 1
RUN_BYTES = 48
"""For each run of a class map down its columns: where it begins, its value, its text, and steps between them."""
BLEND, CONTOUR, PLAIN = "blend", "contour", "plain"
PHOTO_SIZE, MODEL_SIZE = "photo", "model"


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """What a client wants to see."""

    form: AnswerFormat
    pngs: bool = True  # in JSON
    rle: bool = False  # in JSON and zip
    logits: bool = False  # in npz
    least_score: float = 0.0  # of a mask, in hf and coco
    as_text: frozenset[Task] = frozenset()  # in v2: tensors as JSON rather than bytes
    most_values: int = 0  # that an image's tensor may have as JSON
    polygons: bool = False  # in JSON and zip
    nearest_edges: bool = False  # of class maps
    size: str = PHOTO_SIZE  # of maps: that, the model's, or pixels of the longer side
    style: str = BLEND  # of overlays: a veil, outlines and a thin fill, or nothing
    media: str = ""  # of an overlay, where it is not PNG
    tags: tuple[str, str] = (FROM_NAME, TO_NAME)  # of labels and image in Label Studio's interface
    labels: frozenset[str] = frozenset()  # that Label Studio's interface has; none: all are shown

    @property
    def has_pngs(self) -> bool:
        """Whether maps are made as PNGs."""
        return self.form in {AnswerFormat.PNG, AnswerFormat.ZIP} or (self.form is AnswerFormat.JSON and self.pngs)

    def map_size(self, width: int, height: int, seen: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the maps of a photo of this size.

        seen: height and width of what the model sees of it
        """
        if self.size == PHOTO_SIZE:
            return width, height
        if self.size == MODEL_SIZE:
            return seen[1], seen[0]
        longer = int(self.size)
        return tuple(max(1, round(one * longer / max(width, height))) for one in (width, height))  # type: ignore[return-value]

    @property
    def has_documents(self) -> bool:
        """Whether it is said what maps hold: other forms show the maps alone."""
        return self.form in {AnswerFormat.JSON, AnswerFormat.ZIP}


@dataclass(frozen=True, slots=True)
class Extent:
    """Sizes that the work for an image follows from."""

    width: int  # of the photo
    height: int
    side: int  # of the model's square, or the longer one of what tiles of it cover together

    @property
    def pixels(self) -> int:
        """Of the photo."""
        return self.width * self.height

    @property
    def values(self) -> int:
        """What the photo counts as: a row is made of one of the model's, a column too, so neither is ever shorter."""
        return max(self.width, self.side) * max(self.height, self.side)

    @property
    def runs(self) -> int:
        """Most runs down the columns of a class map: two for each row of the model's, where edges follow scores."""
        return self.width * min(self.height, 2 * self.side)

    def check(self, max_pixels: int, size: str = PHOTO_SIZE) -> None:
        """`ImageTooCostlyError` where the photo counts as more than the limit because of its shape.

        size: of the maps, as asked for; `BadParameterError` if they count as more because of it
        """
        limit = max(max_pixels, self.side**2)
        if self.values > limit and size.isdigit():
            raise BadParameterError(
                f"size={size} asks for maps of {self.width} x {self.height} pixels, which take as much work as "
                f"{self.values}; the limit is {limit}: ask for size={self._largest(limit)} or less"
            )
        if self.values > limit:
            raise ImageTooCostlyError(
                f"a photo of {self.width} x {self.height} pixels takes as much work as one of {self.values}, because "
                f"the model sees {self.side} x {self.side}; the limit is {limit}: send a photo that is less narrow"
            )

    def _largest(self, limit: int) -> int:
        """Pixels of the longer side of maps of this shape that surely count as no more than that."""
        longer, shorter = max(self.width, self.height), min(self.width, self.height)
        by_area = math.isqrt(limit * longer // shorter)
        wide_enough = by_area * shorter >= self.side * longer
        return max(1, (by_area if wide_enough else limit // self.side) - 1)


def filtered_bytes(extent: Extent, bytes_each: int) -> int:
    """Of rows of a PNG, each of which has a byte more than its pixels have."""
    return (extent.pixels + extent.height) * bytes_each
