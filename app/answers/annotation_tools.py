"""Masks as annotation tools import them: brush labels of Label Studio, mask shapes of CVAT. No background."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.answers.form import Pieces, to_json
from app.answers.masks import Mask, find_masks
from app.answers.subject import Subject

BACKGROUND = "background"
CHANNELS = 4  # Label Studio's runs go over red, green, blue and alpha of each pixel, all of one value
RUN_BITS = (3, 4, 8, 16)  # of a run's length less one: the least that suffices is taken
_INSIDE = 255
_WORD_BITS, _LEAST_RUN, _MOST_RUN = 8, 1, 1 << RUN_BITS[-1]


def to_label_studio(subject: Subject) -> Pieces:
    """One element of a task's `predictions`: a result for each mask, with brush run lengths."""
    labels, masks = _masks(subject)
    height, width = labels.shape
    results = [
        {
            "id": f"mask-{mask.id}",
            "type": "brushlabels",
            "from_name": "tag",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": mask.score,
            "value": {"format": "rle", "rle": brush_runs(labels == mask.id).tolist(), "brushlabels": [mask.name]},
        }
        for mask in masks
    ]
    score = round(sum(mask.score for mask in masks) / len(masks), 6) if masks else 0.0
    return [to_json({"model_version": f"mtlora-{subject.spec.task.value}", "score": score, "result": results})]


def to_cvat(subject: Subject) -> Pieces:
    """The annotations of one frame: a shape of type `mask` for each, its runs within its box and the box's corners."""
    labels, masks = _masks(subject)
    return [to_json({"version": 0, "tags": [], "tracks": [], "shapes": [_shape(labels == m.id, m) for m in masks]})]


def brush_runs(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask, bool [H, W], as the bytes of Label Studio's brush format.

    A head: values (32 bits), bits of a value less one (5), and four sizes of run lengths, less one (4 each). Then runs:
    a bit that is 1, which of the sizes (2), the length less one, the value. The rest of the last byte is 0.
    """
    lengths, values = _row_runs(inside)
    lengths = lengths * CHANNELS
    times = -(-lengths // _MOST_RUN)  # longer ones are several
    split = np.full(int(times.sum()), _MOST_RUN)
    split[np.cumsum(times) - 1] = lengths - (times - 1) * _MOST_RUN
    values = np.repeat(values, times)
    size = np.searchsorted(1 << np.array(RUN_BITS), split)
    bits = np.array(RUN_BITS)[size]
    code = (((4 + size) << bits) + split - _LEAST_RUN << _WORD_BITS) + np.where(values, _INSIDE, 0)
    head = [(inside.size * CHANNELS, 32), (_WORD_BITS - 1, 5), *((one - 1, 4) for one in RUN_BITS)]
    codes = np.concatenate([[value for value, _ in head], code]).astype(np.uint64)
    return _packed(codes, np.concatenate([[size for _, size in head], 3 + bits + _WORD_BITS]))


def _packed(codes: NDArray[np.uint64], bits: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers of so many bits each, one after the other, the highest bit first."""
    places = np.arange(int(bits.max()) - 1, -1, -1)
    table = (codes[:, None] >> places.astype(np.uint64) & 1).astype(np.uint8)
    return np.packbits(table[places < bits[:, None]])


def _row_runs(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lengths of the runs along the rows, and whether each is inside."""
    flat = inside.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return np.diff(starts, append=flat.size), flat[starts]


def _shape(inside: NDArray[np.bool_], mask: Mask) -> dict[str, Any]:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    left, top, right, bottom = (int(one) for one in (columns[0], rows[0], columns[-1], rows[-1]))
    lengths, values = _row_runs(inside[top : bottom + 1, left : right + 1])
    runs = ([0] if values[0] else []) + lengths.tolist()  # what is outside comes first
    return {
        "type": "mask",
        "label": mask.name,
        "frame": 0,
        "points": [*runs, left, top, right, bottom],
        "occluded": False,
        "z_order": 0,
        "source": "auto",
        "score": mask.score,
        "attributes": [],
    }


def _masks(subject: Subject) -> tuple[NDArray[np.uint8], list[Mask]]:
    labels, masks = find_masks(subject.source, subject.coarse, subject.spec)
    return labels, list(_shown(masks))


def _shown(masks: list[Mask]) -> Iterator[Mask]:
    return (mask for mask in masks if mask.name != BACKGROUND and mask.pixels)
