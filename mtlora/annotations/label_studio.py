"""Masks for Label Studio: predictions of tasks, with brush labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlora.annotations.brush_runs import brush_runs
from mtlora.annotations.predicted import PredictedPhoto

FROM_NAME, TO_NAME = "tag", "image"
"""Names of the tags `BrushLabels` and `Image` in Label Studio's own template of a labelling interface."""


def brush_result(
    inside: NDArray[np.bool_],
    name: str,
    number: str,
    score: float | None = None,
    tags: tuple[str, str] = (FROM_NAME, TO_NAME),
) -> dict[str, Any]:
    """One result: a mask, bool [H, W], with brush run lengths.

    number: its id, unlike all others of the task
    tags:   names of the labels' tag and of the image's
    """
    height, width = inside.shape
    return {
        "id": number,
        "type": "brushlabels",
        "from_name": tags[0],
        "to_name": tags[1],
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        **({} if score is None else {"score": score}),
        "value": {"format": "rle", "rle": brush_runs(inside).tolist(), "brushlabels": [name]},
    }


def prediction(results: Sequence[dict[str, Any]], model: str) -> dict[str, Any]:
    """One element of a task's `predictions`; its score is the mean of its masks'."""
    scores = [result["score"] for result in results if "score" in result]
    score = round(sum(scores) / len(scores), 6) if scores else 0.0
    return {"model_version": model, "score": score, "result": list(results)}


def to_task(photo: PredictedPhoto, model: str, address: str = "") -> dict[str, Any]:
    """A task to import, with its prediction.

    address: what stands before the photo's name, such as `/data/local-files/?d=`
    """
    results = [brush_result(mask.inside, mask.name, f"mask-{mask.number}") for mask in photo.masks]
    return {"data": {TO_NAME: address + photo.name}, "predictions": [prediction(results, model)]}
