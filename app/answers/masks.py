"""Maps as labelled masks with scores, in the shapes of Hugging Face's image segmentation and of COCO.

Masks that a map has: of a class map one per class that is present; of saliency and edges, the pixels whose value is
at least one half. A score is the mean probability of the mask's pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pybase64
import torch
from numpy.typing import NDArray

from app.answers.form import Pieces, to_json
from app.answers.plan import LABELS_BYTES, RUN_BYTES, Extent, RenderPlan, filtered_bytes
from app.answers.subject import Subject
from mtlora.annotations.run_lengths import Runs, class_bbox, class_rle, find_runs
from mtlora.maps.png_writer import banded_png
from mtlora.maps.postprocessing import PhotoMap
from mtlora.version import __version__
from mtlora.vocabulary.spec import TaskSpec
from mtlora.vocabulary.stopping import Check
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

LEAST_PROBABILITY = 0.5
LABEL_OF = {Task.SALIENCY: "salient", Task.EDGE: "edge"}
IMAGE_ID = 1
SIGMOID_ID = 1  # of the one mask of saliency or edges
FILE_NAME = "image"  # nothing is known of the name that the client has for it
_PNG_BYTES = 2  # of all masks together, as PNGs and as text
_LABEL_COPIES = 2  # the labels, and which of them are one mask


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask of a map: the pixels of `labels` that are `id`."""

    id: int
    name: str
    score: float  # 0..1
    pixels: int


def to_hf(subject: Subject) -> Pieces:
    """A list of `{"label", "score", "mask"}`; masks are 8-bit grey PNGs as base64, 255 inside and 0 outside."""
    labels, masks = find_masks(subject.source, subject.coarse, subject.spec, subject.plan.least_score)
    check = subject.source.check
    return [to_json([{"label": m.name, "score": m.score, "mask": _png(labels, m.id, check)} for m in masks])]


def to_coco(subject: Subject) -> Pieces:
    """A whole dataset of one image: categories are the classes of the task, by their ids; one annotation per mask."""
    source, spec = subject.source, subject.spec
    labels, masks = find_masks(source, subject.coarse, spec, subject.plan.least_score)
    return [to_json(_dataset(find_runs(labels, source.check), masks, spec))]


def hf_bytes(extent: Extent, _: RenderPlan) -> int:
    """Of the labels, and of all masks as PNGs and as text."""
    return filtered_bytes(extent, LABELS_BYTES + _PNG_BYTES)


def runs_bytes(extent: Extent, _: RenderPlan) -> int:
    """Of the labels, and of run lengths on their way to text."""
    return extent.pixels * LABELS_BYTES * _LABEL_COPIES + extent.runs * RUN_BYTES


def _dataset(runs: Runs, masks: Sequence[Mask], spec: TaskSpec) -> dict[str, Any]:
    names = [(i, c.name) for i, c in enumerate(spec.classes)] or [(SIGMOID_ID, LABEL_OF[spec.task])]
    return {
        "info": {"description": f"task {spec.task.value}, predicted by MTLoRA", "version": __version__},
        "licenses": [],
        "images": [{"id": IMAGE_ID, "width": runs.width, "height": runs.height, "file_name": FILE_NAME}],
        "categories": [{"id": i, "name": name, "supercategory": spec.task.value} for i, name in names],
        "annotations": [_annotation(number, mask, runs) for number, mask in enumerate(masks, 1)],
    }


def find_masks(
    source: PhotoMap, coarse: torch.Tensor, spec: TaskSpec, least_score: float = 0.0
) -> tuple[NDArray[np.uint8], list[Mask]]:
    """The photo's pixels as labels, uint8 [H, W], and the masks that they make, of at least this score.

    coarse: float [K, h, w], the decoder's logits that `source` was made of
    """
    if TRAITS[spec.task].decode is Decode.SIGMOID:
        labels, score = _likely(source)
        one = Mask(SIGMOID_ID, LABEL_OF[spec.task], score, int(np.count_nonzero(labels)))
        return labels, [one] if score >= least_score else []
    labels = source.whole().astype(np.uint8, copy=False)
    counts = [int(np.count_nonzero(labels == index)) for index in range(len(spec.classes))]
    present = [index for index in range(len(spec.classes)) if counts[index]]
    scores = _class_scores(source.decoded, coarse, present)
    sure = [index for index in present if scores[index] >= least_score]
    return labels, [Mask(i, spec.classes[i].name, scores[i], counts[i]) for i in sure]


def _likely(source: PhotoMap) -> tuple[NDArray[np.uint8], float]:
    """1 where the probability is at least one half, and its mean there (0 if it is nowhere)."""
    labels = np.empty(source.shape, np.uint8)
    total, count, top = 0.0, 0, 0
    for band in source.bands():
        inside: NDArray[np.bool_] = band >= LEAST_PROBABILITY
        total += float(band.sum(where=inside, dtype=np.float64))
        count += int(np.count_nonzero(inside))
        labels[top : top + len(band)] = inside
        top += len(band)
    return labels, round(total / count, 6) if count else 0.0


def _class_scores(decoded: torch.Tensor, coarse: torch.Tensor, present: list[int]) -> dict[int, float]:
    """Mean probability of each class over its pixels in the class map at the model's resolution.

    decoded: uint8 [H, W]
    coarse:  float [K, h, w], h a divisor of H, w of W
    """
    probabilities = coarse.float().softmax(dim=0)
    h, w = coarse.shape[1:]
    cells = decoded.reshape(h, decoded.shape[0] // h, w, decoded.shape[1] // w)
    scores = {}
    for index in present:
        share = (cells == index).float().mean(dim=(1, 3))  # of each coarse cell that is this class
        if not bool(share.any()):  # it shows between pixels of the model's only: where it is likeliest, then
            share = (probabilities[index] == probabilities[index].max()).float()
        scores[index] = round(float((share * probabilities[index]).sum() / share.sum()), 6)
    return scores


def _png(labels: NDArray[np.uint8], index: int, check: Check) -> str:
    def fill(top: int, bottom: int, out: NDArray[Any]) -> None:
        np.multiply(labels[top:bottom] == index, np.uint8(255), out=out)

    return pybase64.b64encode_as_string(banded_png(fill, labels.shape, labels.dtype, check=check).file())


def _annotation(number: int, mask: Mask, runs: Runs) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": IMAGE_ID,
        "category_id": mask.id,
        "segmentation": class_rle(runs, mask.id),
        "area": mask.pixels,
        "bbox": list(class_bbox(runs, mask.id)),
        "iscrowd": 0,
        "score": mask.score,
    }
