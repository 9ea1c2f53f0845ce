"""Tasks rendered apart and joined are tasks rendered together; the document is JSON whatever is in it."""

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from app.answers.costs import encode_bytes
from app.answers.negotiation import AnswerFormat
from app.answers.overlay import HIGHLIGHT, OPACITY
from app.answers.plan import Extent, RenderPlan
from app.answers.render import Share, join, put_together, render, separate
from app.answers.rendered import Rendered
from app.core.decoded_photo import Decoded
from app.core.errors import DeadlineError
from mtlora.maps.map_png import Painting, palette
from mtlora.maps.postprocessing import photo_map
from mtlora.vocabulary.tasks import Task
from testing.factories import PASCAL_TASKS, adapter_spec

SIZE, LARGE = (50, 30), (640, 513)
SPEC = adapter_spec(tasks=PASCAL_TASKS, image_size=64)


def scores(tasks: tuple[Task, ...]) -> dict[Task, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return {task: torch.randn(SPEC.task(task).outputs, 8, 8, generator=source) * 4 for task in tasks}


def shown(rendered: Rendered, tasks: Sequence[Task], plan: RenderPlan) -> dict[str, Any]:
    """What a client sees; PNGs as their pixels, for stripes are packed apart."""
    made = put_together(rendered, tasks, plan)
    body = b"".join(made.end(lambda: {"id": 1}))
    if plan.form is AnswerFormat.V2:
        return {task: b"".join(pieces) for task, pieces in made.tensors.items()}
    if plan.form is AnswerFormat.PNG:
        return {"png": pixels(body)}
    if plan.form is AnswerFormat.ZIP:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        document: dict[str, Any] = json.loads(members.pop("result.json"))
        return {**document, "pngs": {name: pixels(png) for name, png in members.items()}}
    document = json.loads(body)
    for facts in document["tasks"].values():
        if "png" in facts:
            facts["png"] = pixels(base64.b64decode(facts["png"]))
    return document


def pixels(png: bytes) -> object:
    return np.asarray(Image.open(io.BytesIO(png))).tolist()


@pytest.mark.parametrize("form", [AnswerFormat.JSON, AnswerFormat.ZIP, AnswerFormat.V2])
@pytest.mark.parametrize("order", [PASCAL_TASKS, PASCAL_TASKS[::-1]])
@pytest.mark.parametrize("size", [SIZE, LARGE])
def test_joined_shares_are_the_whole(form: AnswerFormat, order: tuple[Task, ...], size: tuple[int, int]) -> None:
    plan, decoded, logits = RenderPlan(form, rle=True), Decoded(torch.zeros(1), *size), scores(PASCAL_TASKS)
    shares = separate(plan, order, Extent(*size, 64))
    assert {share.tasks for share in shares} == {(task,) for task in order}
    assert len(shares) == len(order) + (size == LARGE and form is not AnswerFormat.V2)
    joined = join([render(logits, decoded, SPEC, plan, share) for share in shares], order)
    whole = render(logits, decoded, SPEC, plan, Share(order))
    assert list(joined.documents) == ([] if form is AnswerFormat.V2 else list(order))
    assert shown(joined, order, plan) == shown(whole, order, plan)


@pytest.mark.parametrize("size", [SIZE, LARGE])
def test_a_picture_alone_is_drawn_without_words(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No document is made that the answer does not show."""
    monkeypatch.setattr("app.answers.render.to_json", None)
    plan, decoded, logits = RenderPlan(AnswerFormat.PNG), Decoded(torch.zeros(1), *size), scores(PASCAL_TASKS)
    for task in PASCAL_TASKS:
        shares = separate(plan, (task,), Extent(*size, 64))
        joined = join([render(logits, decoded, SPEC, plan, share) for share in shares], (task,))
        whole = render(logits, decoded, SPEC, plan, Share((task,)))
        assert not joined.documents
        assert shown(joined, (task,), plan) == shown(whole, (task,), plan)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("height", [7, 30, 513])
def test_shares_of_a_map_are_all_its_rows(parts: int, height: int) -> None:
    rows = [Share((Task.NORMALS,), part, parts).rows(height) for part in range(parts)]
    assert (rows[0][0], rows[-1][1]) == (0, height)
    assert all(end == begin for (_, end), (begin, _) in pairwise(rows))


def test_normals_which_take_the_longest_begin_first() -> None:
    assert separate(RenderPlan(AnswerFormat.JSON), PASCAL_TASKS, Extent(10, 10, 64))[0] == Share((Task.NORMALS,))
    halves = [Share((Task.NORMALS,), part, 2) for part in range(2)]
    assert separate(RenderPlan(AnswerFormat.JSON), PASCAL_TASKS, Extent(1000, 1000, 64))[:2] == halves
    assert separate(RenderPlan(AnswerFormat.PNG), (Task.NORMALS,), Extent(1000, 1000, 64)) == halves


@pytest.mark.parametrize("form", [AnswerFormat.NPZ, AnswerFormat.OVERLAY, AnswerFormat.COCO])
def test_what_is_one_piece_is_made_in_one(form: AnswerFormat) -> None:
    assert separate(RenderPlan(form), PASCAL_TASKS, Extent(10, 10, 64)) == [Share(PASCAL_TASKS)]


def test_large_photos_are_rendered_task_after_task() -> None:
    """Side by side takes more memory than one after the other."""
    plan = RenderPlan(AnswerFormat.JSON)
    assert len(separate(plan, PASCAL_TASKS, Extent(4000, 2000, 64))) == len(PASCAL_TASKS) + 1
    assert separate(plan, PASCAL_TASKS, Extent(10_000, 5000, 64)) == [Share(PASCAL_TASKS)]
    assert encode_bytes(plan, PASCAL_TASKS, Extent(10, 10, 64), side_by_side=True) > encode_bytes(
        plan, PASCAL_TASKS, Extent(10, 10, 64)
    )


@pytest.mark.parametrize("pngs", [True, False])
@pytest.mark.parametrize("rle", [True, False])
def test_documents_are_json(pngs: bool, rle: bool) -> None:
    plan = RenderPlan(AnswerFormat.JSON, pngs=pngs, rle=rle)
    rendered = render(scores(PASCAL_TASKS), Decoded(torch.zeros(1), *SIZE), SPEC, plan, Share(PASCAL_TASKS))
    made = put_together(rendered, PASCAL_TASKS, plan)
    document = json.loads(b"".join(made.end(lambda: {"adapter": {"name": 'quoted "ünïcode"'}})))
    assert list(document) == ["image", "tasks", "adapter"]
    assert document["image"] == {"width": SIZE[0], "height": SIZE[1]}
    assert document["adapter"] == {"name": 'quoted "ünïcode"'}
    assert list(document["tasks"]) == [task.value for task in PASCAL_TASKS]
    assert all(("png" in facts, "encoding" in facts) == (pngs, pngs) for facts in document["tasks"].values())
    listed = document["tasks"]["semseg"]["classes"]
    assert sum(known["pixels"] for known in listed) == SIZE[0] * SIZE[1]
    assert all(("rle" in known) is rle for known in listed)


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (LARGE[1], LARGE[0], 3), np.uint8)


@pytest.mark.parametrize("task", [Task.SEMSEG, Task.SALIENCY, Task.NORMALS])
def test_an_overlay_is_the_photo_blended_as_a_whole(task: Task) -> None:
    """In bands, and bit for bit what Pillow makes of everything at once."""
    logits, own = scores((task,)), SPEC.task(task)
    rendered = render(
        logits, Decoded(torch.zeros(1), *LARGE), SPEC, RenderPlan(AnswerFormat.OVERLAY), Share((task,)), photo=photo
    )
    source = photo_map(task, logits[task], SPEC.image_size, (LARGE[1], LARGE[0]))
    pixels = Painting(source, own).whole()
    top, veil = Image.fromarray(pixels), Image.new("L", LARGE, round(255 * OPACITY))
    if task is Task.SEMSEG:
        veil = Image.fromarray(np.where(pixels == 0, 0, round(255 * OPACITY)).astype(np.uint8))
        top.putpalette(palette(own))
    elif task is Task.SALIENCY:
        veil, top = top.point([round(i * OPACITY) for i in range(256)]), Image.new("RGB", LARGE, HIGHLIGHT)
    expected = Image.composite(top.convert("RGB"), Image.fromarray(photo()), veil)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(b"".join(rendered.body)))), np.asarray(expected))


FORMS = {
    "json": (RenderPlan(AnswerFormat.JSON), PASCAL_TASKS),
    "no pngs": (RenderPlan(AnswerFormat.JSON, pngs=False), (Task.SALIENCY,)),
    "rle": (RenderPlan(AnswerFormat.JSON, pngs=False, rle=True), (Task.SEMSEG,)),
    "png of normals": (RenderPlan(AnswerFormat.PNG), (Task.NORMALS,)),
    "npz": (RenderPlan(AnswerFormat.NPZ), (Task.SALIENCY,)),
    "hf": (RenderPlan(AnswerFormat.HF), (Task.HUMAN_PARTS,)),
    "coco": (RenderPlan(AnswerFormat.COCO), (Task.SALIENCY,)),
    "polygons": (RenderPlan(AnswerFormat.JSON, pngs=False, polygons=True), (Task.SEMSEG,)),
    "ids": (RenderPlan(AnswerFormat.IDS), (Task.SEMSEG,)),
    "label studio": (RenderPlan(AnswerFormat.LABEL_STUDIO), (Task.SEMSEG,)),
    "cvat": (RenderPlan(AnswerFormat.CVAT), (Task.SEMSEG,)),
    "overlay": (RenderPlan(AnswerFormat.OVERLAY), (Task.NORMALS,)),
    "outlines": (RenderPlan(AnswerFormat.OVERLAY, style="contour"), (Task.SEMSEG,)),
    "v2": (RenderPlan(AnswerFormat.V2), (Task.NORMALS,)),
    "v2 text": (RenderPlan(AnswerFormat.V2, as_text=frozenset({Task.SALIENCY}), most_values=10**8), (Task.SALIENCY,)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_stops_half_way(form: str) -> None:
    """Whatever is made, somebody asks between its bands whether it is still wanted."""
    plan, tasks = FORMS[form]
    size = (70, 65_535) if form != "v2 text" else (640, 513)
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise DeadlineError("enough")

    decoded, narrow = Decoded(torch.zeros(1), *size), np.zeros((size[1], size[0], 3), np.uint8)
    overlay = (lambda: narrow) if plan.form is AnswerFormat.OVERLAY else None
    with pytest.raises(DeadlineError, match="enough"):
        render(scores(tasks), decoded, SPEC, plan, Share(tasks), photo=overlay, check=check)
    assert asked == 3
