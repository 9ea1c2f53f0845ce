"""Tasks rendered apart and joined are tasks rendered together; the document is JSON whatever is in it."""

import json

import pytest
import torch

from app.imaging.decode import Decoded
from app.imaging.render import RenderPlan, encode_bytes, join, render, separate, to_document
from app.intake.formats import AnswerFormat
from mtlora.tasks import Task
from tests.factories import PASCAL_TASKS, adapter_spec

SIZE = (50, 30)
SPEC = adapter_spec(tasks=PASCAL_TASKS, image_size=64)


def scores(tasks: tuple[Task, ...]) -> dict[Task, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return {task: torch.randn(SPEC.task(task).outputs, 8, 8, generator=source) * 4 for task in tasks}


@pytest.mark.parametrize("form", [AnswerFormat.JSON, AnswerFormat.ZIP, AnswerFormat.V2])
@pytest.mark.parametrize("order", [PASCAL_TASKS, PASCAL_TASKS[::-1]])
def test_joined_parts_are_the_whole(form: AnswerFormat, order: tuple[Task, ...]) -> None:
    plan, decoded, logits = RenderPlan(form, rle=True), Decoded(torch.zeros(1), *SIZE), scores(PASCAL_TASKS)
    groups = separate(plan, order, SIZE[0] * SIZE[1])
    assert sorted(groups) == sorted((task,) for task in order)
    parts = [render({task: logits[task] for task in group}, decoded, SPEC, plan) for group in groups]
    joined, whole = join(parts, order), render({task: logits[task] for task in order}, decoded, SPEC, plan)
    assert joined == whole
    assert list(joined.documents) == [task for task in order if task in joined.documents]


def test_normals_which_take_the_longest_begin_first() -> None:
    assert separate(RenderPlan(AnswerFormat.JSON), PASCAL_TASKS, 100)[0] == (Task.NORMALS,)


@pytest.mark.parametrize("form", [AnswerFormat.NPZ, AnswerFormat.OVERLAY, AnswerFormat.COCO])
def test_what_is_one_piece_is_made_in_one(form: AnswerFormat) -> None:
    assert separate(RenderPlan(form), PASCAL_TASKS, 100) == [PASCAL_TASKS]


def test_large_photos_are_rendered_task_after_task() -> None:
    """Side by side takes more memory than one after the other."""
    plan = RenderPlan(AnswerFormat.JSON)
    assert len(separate(plan, PASCAL_TASKS, 8_000_000)) == len(PASCAL_TASKS)
    assert separate(plan, PASCAL_TASKS, 50_000_000) == [PASCAL_TASKS]
    assert encode_bytes(plan, PASCAL_TASKS, 100, side_by_side=True) > encode_bytes(plan, PASCAL_TASKS, 100)


@pytest.mark.parametrize("pngs", [True, False])
@pytest.mark.parametrize("rle", [True, False])
def test_documents_are_json(pngs: bool, rle: bool) -> None:
    plan = RenderPlan(AnswerFormat.JSON, pngs=pngs, rle=rle)
    rendered = render(scores(PASCAL_TASKS), Decoded(torch.zeros(1), *SIZE), SPEC, plan)
    document = json.loads(b"".join(to_document(rendered, {"adapter": {"name": 'quoted "ünïcode"'}})))
    assert list(document) == ["image", "tasks", "adapter"]
    assert document["image"] == {"width": SIZE[0], "height": SIZE[1]}
    assert document["adapter"] == {"name": 'quoted "ünïcode"'}
    assert list(document["tasks"]) == [task.value for task in PASCAL_TASKS]
    assert all(("png" in facts, "encoding" in facts) == (pngs, pngs) for facts in document["tasks"].values())
    listed = document["tasks"]["semseg"]["classes"]
    assert sum(known["pixels"] for known in listed) == SIZE[0] * SIZE[1]
    assert all(("rle" in known) is rle for known in listed)
