"""Render plans: what a client wants to see, the memory and time it takes, and the photos that would take too much."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.answers.negotiation import AnswerFormat
from app.answers.oip_tensors import text_bytes
from app.core.errors import ImageTooCostlyError
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

ENCODED_PIXELS_PER_US = 20  # a first guess, for a flow pays what the work takes

# Upper estimates, held against measured peaks by tests/app/answers/test_memory.py. Bytes for each pixel of the photo:
_ARRAY_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 4, Decode.UNIT_VECTOR: 12, Decode.IDENTITY: 4}
_PNG_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 1, Decode.UNIT_VECTOR: 2, Decode.IDENTITY: 2}
_COPIED = 2  # times the PNG: text of four thirds of its bytes is made of all of them in one piece, or an archive
_LABELS_BYTES = 1
_OVERLAY_BYTES = 12  # the photo, decoded for it (4 and 3), and a PNG of it at its worst
_MASK_PNG_BYTES = 2  # of all masks together, as PNGs and as text
# Bytes for each run of a class map down its columns: where it begins, its value, its text, and steps between them.
_RUN_BYTES = 48
_BAND_BYTES = 16 << 20  # of a thread: floats of some rows, pixels, packed pixels


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

    @property
    def has_pngs(self) -> bool:
        """Whether maps are made as PNGs."""
        return self.form in {AnswerFormat.PNG, AnswerFormat.ZIP} or (self.form is AnswerFormat.JSON and self.pngs)

    @property
    def has_documents(self) -> bool:
        """Whether it is said what maps hold: other forms show the maps alone."""
        return self.form in {AnswerFormat.JSON, AnswerFormat.ZIP}


@dataclass(frozen=True, slots=True)
class Extent:
    """Sizes that the work for an image follows from."""

    width: int  # of the photo
    height: int
    side: int  # of the model's square

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
        """Most runs down the columns that a class map can have."""
        return self.width * min(self.height, self.side)

    def check(self, max_pixels: int) -> None:
        """`ImageTooCostlyError` where the photo counts as more than the limit because of its shape."""
        limit = max(max_pixels, self.side**2)
        if self.values > limit:
            raise ImageTooCostlyError(
                f"a photo of {self.width} x {self.height} pixels takes as much work as one of {self.values}, because "
                f"the model sees {self.side} x {self.side}; the limit is {limit}: send a photo that is less narrow"
            )


def encode_us(tasks: Sequence[Task], extent: Extent) -> int:
    """Time of one thread that encoding takes, a guess."""
    return extent.height * max(extent.width, extent.side) * len(tasks) // ENCODED_PIXELS_PER_US


def encode_bytes(plan: RenderPlan, tasks: Sequence[Task], extent: Extent, *, side_by_side: bool = False) -> int:
    """Memory that rendering takes at its peak, an upper estimate: what is kept of every task, and the largest step.

    side_by_side: the tasks are rendered at the same time (see `render.separate`)
    """
    kinds, pixels = [TRAITS[task].decode for task in tasks], extent.pixels
    bands = _BAND_BYTES * (len(tasks) if side_by_side else 1)
    match plan.form:
        case AnswerFormat.NPZ:
            return bands + pixels * sum(_ARRAY_BYTES[kind] for kind in kinds)
        case AnswerFormat.V2:
            texts = [text_bytes(task) if task in plan.as_text else _ARRAY_BYTES[TRAITS[task].decode] for task in tasks]
            return bands + pixels * sum(texts)
        case AnswerFormat.OVERLAY:
            return bands + pixels * _OVERLAY_BYTES
        case AnswerFormat.HF:
            return bands + _filtered(extent, _LABELS_BYTES + _MASK_PNG_BYTES)
        case AnswerFormat.COCO:
            return bands + pixels * _LABELS_BYTES + extent.runs * _RUN_BYTES
    times = (1 if plan.form is AnswerFormat.PNG else _COPIED) if plan.has_pngs else 0
    kept = sum(_filtered(extent, _PNG_BYTES[kind] * times) for kind in kinds)
    labelled = kinds.count(Decode.ARGMAX) if side_by_side else Decode.ARGMAX in kinds
    runs = labelled * (pixels * _LABELS_BYTES + extent.runs * _RUN_BYTES) if plan.rle and plan.has_documents else 0
    return bands + kept + runs


def _filtered(extent: Extent, bytes_each: int) -> int:
    """Of rows of a PNG, each of which has a byte more than its pixels have."""
    return (extent.pixels + extent.height) * bytes_each
