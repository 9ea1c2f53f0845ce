"""Whether a label shows what its photo shows: sizes compared with the upright photo.

A label may be smaller or larger than its photo, but shows all of it: its aspect ratio is the photo's, as far as whole
pixels allow. A label that fits only the photo as it is stored was drawn by a tool that ignores EXIF orientation. Nobody
can see that of a square photo, nor of one that is mirrored or upside down.
"""

import math
from collections.abc import Sequence

from mtlora.data.findings import Findings, in_place
from mtlora.data.photos import PhotoShape, photo_shape
from mtlora.data.records import PhotoDataset
from mtlora.images.photo import UPRIGHT
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task

_ROUNDINGS = ((-0.5, 0.5), (0.0, 1.0), (-1.0, 0.0))  # a side was rounded, rounded down, rounded up
_HALF = 0.5

Size = tuple[int, int]
"""Width and height in pixels."""


def disagreement(label: Size, photo: PhotoShape) -> tuple[str, str]:
    """What is wrong with a label of this size, and what mends it; both empty if it shows what the photo shows."""
    if _same_shape(label, photo.size):
        return "", ""
    if _same_shape(label, photo.stored):
        return (
            "are drawn on the photo as it is stored, not as it is shown (EXIF orientation)",
            "`mtlora data upright DIR OUT` writes a copy with them turned",
        )
    return (
        "have another aspect ratio than their photos",
        "A label shows its whole photo in the photo's shape: crop both alike, and do not stretch labels to a square",
    )


def cannot_be_told(label: Size, photo: PhotoShape) -> bool:
    """Whether a label of a turned photo has a size that fits whichever way it was drawn."""
    return photo.orientation != UPRIGHT and _same_shape(label, photo.size) and _same_shape(label, photo.stored)


def sizes_in_words(label: Size, photo: PhotoShape) -> str:
    """Both sizes, such as `400 x 300, the photo 300 x 400`."""
    return f"{label[0]} x {label[1]}, the photo {photo.width} x {photo.height}"


def check_agreement(dataset: PhotoDataset, tasks: Sequence[Task]) -> None:
    """Look at the headers of photos and labels; `DataError` has one line for each cause."""
    findings = Findings()
    for record in dataset.records:
        sources = [record.labels[task] for task in tasks if task in record.labels]
        shape = photo_shape(record.photo) if sources else None
        for source in sources:
            size = source.size()
            if shape is None or size is None:
                continue
            cause, mend = disagreement(size, shape)
            if cause:
                findings.add(f"labels {cause}", f"{source.shown} ({sizes_in_words(size, shape)})", mend)
    found = findings.all()
    if found:
        lines = [finding.line() for finding in in_place(found, dataset.root)]
        raise DataError(f"labels of split {dataset.split!r} do not fit their photos", lines)


def _same_shape(label: Size, photo: Size) -> bool:
    """Whether one scale takes both sides of the photo to those of the label, rounded alike.

    The photo may itself be a larger one's copy, whose sides were rounded.
    """
    pairs = tuple(zip(label, photo, strict=True))
    return math.prod(label) > 0 and any(
        max((side + low) / (whole + _HALF) for side, whole in pairs)
        <= min((side + high) / (whole - _HALF) for side, whole in pairs)
        for low, high in _ROUNDINGS
    )
