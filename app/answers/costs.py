"""The memory and time that rendering takes, in upper estimates and guesses."""

from collections.abc import Sequence

from app.answers.form import AnswerFormat
from app.answers.forms import FORMS
from app.answers.oip_tensors import text_bytes
from app.answers.plan import LABELS_BYTES, RUN_BYTES, Extent, RenderPlan, filtered_bytes
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

ENCODED_PIXELS_PER_US = 20  # a first guess, for a flow pays what the work takes

# Upper estimates, held against measured peaks by tests/app/answers/test_memory.py. Bytes for each pixel of the photo:
_ARRAY_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 4, Decode.UNIT_VECTOR: 12, Decode.IDENTITY: 4}
_PNG_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 1, Decode.UNIT_VECTOR: 2, Decode.IDENTITY: 2}
_COPIED = 2  # times the PNG: text of four thirds of its bytes is made of all of them in one piece, or an archive
_BAND_BYTES = 16 << 20  # of a thread: floats of some rows, pixels, packed pixels


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
        case _ if FORMS[plan.form].draw is not None:
            return bands + FORMS[plan.form].peak_bytes(extent, plan)
    times = (1 if plan.form is AnswerFormat.PNG else _COPIED) if plan.has_pngs else 0
    kept = sum(filtered_bytes(extent, _PNG_BYTES[kind] * times) for kind in kinds)
    labelled = kinds.count(Decode.ARGMAX) if side_by_side else Decode.ARGMAX in kinds
    runs = (
        labelled * (pixels * LABELS_BYTES + extent.runs * RUN_BYTES)
        if (plan.rle or plan.polygons) and plan.has_documents
        else 0
    )
    return bands + kept + runs
