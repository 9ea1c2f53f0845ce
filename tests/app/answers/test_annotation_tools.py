"""Masks for annotation tools, read by decoders that are written from their descriptions."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.answers.form import AnswerFormat
from app.answers.forms import FORMS
from app.answers.masks import find_masks
from app.answers.plan import RenderPlan
from app.answers.subject import Subject
from mtlora.annotations.brush_runs import brush_runs
from mtlora.maps.postprocessing import photo_map
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec

SPEC = adapter_spec(tasks=(Task.HUMAN_PARTS, Task.SALIENCY))
SIDE = SPEC.image_size // 8


def subject(task: Task, form: AnswerFormat) -> Subject:
    torch.manual_seed(1)
    coarse = torch.randn(SPEC.task(task).outputs, SIDE, SIDE) * 3
    return Subject(photo_map(task, coarse, SPEC.image_size, (90, 140)), coarse, SPEC.task(task), RenderPlan(form))


def drawn(of: Subject) -> Any:
    draw = FORMS[of.plan.form].draw
    assert draw is not None
    return json.loads(b"".join(draw(of)))


def unpacked(runs: Sequence[int]) -> NDArray[np.uint8]:
    """Label Studio's brush format, bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in runs)
    at = 0

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int(bits[at - size : at], 2)

    values, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < values:
        is_run, length = number(1), number(sizes[number(2)]) + 1
        out += [number(word)] * length if is_run else [number(word) for _ in range(length)]
    return np.array(out[:values], np.uint8).reshape(-1, 4)


@pytest.mark.parametrize("task", [Task.HUMAN_PARTS, Task.SALIENCY])
def test_brush_labels_are_the_masks(task: Task) -> None:
    of = subject(task, AnswerFormat.LABEL_STUDIO)
    labels, masks = find_masks(of.source, of.coarse, of.spec)
    answer = drawn(of)
    wanted = [mask for mask in masks if mask.name != "background"]
    assert [one["value"]["brushlabels"] for one in answer["result"]] == [[mask.name] for mask in wanted]
    for mask, one in zip(wanted, answer["result"], strict=True):
        assert (one["original_width"], one["original_height"], one["type"]) == (140, 90, "brushlabels")
        pixels = unpacked(one["value"]["rle"])
        np.testing.assert_array_equal(pixels[:, 3].reshape(90, 140) == 255, labels == mask.id)
        assert (pixels == pixels[:, :1]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 70_000), (300, 300)])
@pytest.mark.parametrize("value", [False, True])
def test_long_runs_are_split(shape: tuple[int, int], value: bool) -> None:
    inside = np.full(shape, value)
    inside[0, 0] = True
    assert ((unpacked(brush_runs(inside).tolist())[:, 0] == 255) == inside.ravel()).all()


def test_cvat_s_shapes_are_the_masks() -> None:
    of = subject(Task.HUMAN_PARTS, AnswerFormat.CVAT)
    labels, masks = find_masks(of.source, of.coarse, of.spec)
    shapes = drawn(of)["shapes"]
    assert [shape["label"] for shape in shapes] == [mask.name for mask in masks if mask.name != "background"]
    ids = {mask.name: mask.id for mask in masks}
    for shape in shapes:
        *runs, left, top, right, bottom = shape["points"]
        box = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(bottom - top + 1, right - left + 1)
        whole = np.zeros(labels.shape, np.bool_)
        whole[top : bottom + 1, left : right + 1] = box
        np.testing.assert_array_equal(whole, labels == ids[shape["label"]])
        assert box[0].any()
        assert box[:, -1].any()


def test_every_form_that_is_offered_is_registered() -> None:
    assert set(FORMS) == set(AnswerFormat)
