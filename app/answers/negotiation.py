"""The choice of an answer's form: `format` first, then `Accept`. Pure functions."""

from collections.abc import Sequence

from app.answers.form import AnswerFormat
from app.answers.forms import FORMS
from app.answers.subject import CLASSES
from app.core.errors import BadParameterError, NotAcceptableError
from app.core.nearest import unknown
from app.core.numbers import quality_of
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

__all__ = ["OFFERED", "AnswerFormat", "choose_format"]

OFFERED = tuple(form for form in AnswerFormat if form is not AnswerFormat.V2)
_BY_ACCEPT = {
    FORMS[form].media: form for form in (AnswerFormat.JSON, AnswerFormat.PNG, AnswerFormat.ZIP, AnswerFormat.NPZ)
}
_OVERLAYS = ("image/png", "image/jpeg", "image/webp")
OF_MASKS = {AnswerFormat.HF, AnswerFormat.COCO}
WITH_MASKS = {Decode.ARGMAX, Decode.SIGMOID}


def choose_format(wanted: str | None, accept: str, *, tasks: Sequence[Task], images: int) -> AnswerFormat:
    """The form for an answer of these tasks and so many images; `NotAcceptableError` if it cannot be given.

    `BadParameterError`: a form of masks for a task that has none.
    """
    if wanted is not None:
        chosen = _named(wanted)
        problem = _obstacle(chosen, len(tasks), images)
        if problem:
            raise NotAcceptableError(f"format {chosen.value!r} {problem}")
        _check_kinds(chosen, tasks)
        return chosen
    for candidate in accepted(accept):
        if not _obstacle(candidate, len(tasks), images):
            return candidate
    raise NotAcceptableError(
        f"none of {accept[:200]!r} can be given for {len(tasks)} tasks and {images} images; "
        f"forms: {', '.join(_BY_ACCEPT)} (image/png for one task and one image, the other two for one image)"
    )


def accepted(accept: str) -> list[AnswerFormat]:
    """Forms that an `Accept` header allows, the most wanted first; on a tie JSON, then PNG, zip, npz."""
    ranges = _ranges(accept) if accept.strip() else {"*/*": 1.0}
    quality = {form: _quality(ranges, media) for media, form in _BY_ACCEPT.items()}
    return sorted((f for f in quality if quality[f] > 0), key=lambda f: -quality[f])


def _named(wanted: str) -> AnswerFormat:
    chosen = next((form for form in OFFERED if form == wanted.lower()), None)
    if chosen is None:
        raise NotAcceptableError(unknown("format", wanted[:40], OFFERED))
    return chosen


def overlay_media(accept: str) -> str:
    """The kind of picture that an overlay is, by what an `Accept` header wants most; PNG unless it says another."""
    ranges = _ranges(accept)
    named = [media for media in _OVERLAYS if ranges.get(media, 0) > 0]
    return max(named, key=lambda media: ranges[media], default=_OVERLAYS[0])


def _check_kinds(form: AnswerFormat, tasks: Sequence[Task]) -> None:
    lacking = [task for task in tasks if TRAITS[task].decode not in FORMS[form].kinds]
    if lacking:
        kind = TRAITS[lacking[0]].decode
        others = ", ".join(other for other in OFFERED if kind in FORMS[other].kinds)
        what = "classes" if FORMS[form].kinds == CLASSES else "masks"
        raise BadParameterError(f"format {form.value!r} carries {what}, task {lacking[0]} has none; {others} carry it")


def _obstacle(form: AnswerFormat, tasks: int, images: int) -> str:
    """Why this form cannot carry the answer; empty if it can."""
    if form is not AnswerFormat.JSON and images != 1:
        return f"carries one image, the request has {images}; ask for json"
    is_of_one = form is AnswerFormat.PNG or FORMS[form].draw is not None
    if is_of_one and tasks != 1:
        return f"carries one task, the request has {tasks}; name one with tasks="
    return ""


def _ranges(accept: str) -> dict[str, float]:
    ranges: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = quality_of(parameter[2:])
        ranges[media] = quality
    return ranges


def _quality(ranges: dict[str, float], media: str) -> float:
    """The most specific range decides, as RFC 9110 says."""
    for candidate in (media, media.partition("/")[0] + "/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0
