"""Which form of answer a client gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.answers.negotiation import OFFERED, AnswerFormat, choose_format
from app.core.errors import BadParameterError, NotAcceptableError
from mtlora.vocabulary.tasks import Task

TASKS = (Task.SEMSEG, Task.SALIENCY, Task.NORMALS, Task.DEPTH)


@pytest.mark.parametrize(
    ("accept", "tasks", "images", "form"),
    [
        ("", 4, 1, "json"),
        ("*/*", 1, 1, "json"),
        ("application/json", 4, 9, "json"),
        ("image/png", 1, 1, "png"),
        ("image/*", 1, 1, "png"),
        ("image/png, application/json", 1, 1, "json"),
        ("image/png, application/json;q=0.5", 1, 1, "png"),
        ("image/png, application/json;q=0.5", 2, 1, "json"),
        ("application/zip", 4, 1, "zip"),
        ("application/x-npz;q=1, */*;q=0.1", 4, 1, "npz"),
        ("application/json;q=0, */*", 4, 1, "zip"),
        ("text/html,application/xhtml+xml,image/avif,*/*;q=0.8", 4, 1, "json"),
        ("IMAGE/PNG ; Q=0.9", 1, 1, "png"),
    ],
)
def test_accept(accept: str, tasks: int, images: int, form: str) -> None:
    assert choose_format(None, accept, tasks=TASKS[:tasks], images=images) == form


@pytest.mark.parametrize("form", OFFERED)
def test_format_wins_over_accept(form: AnswerFormat) -> None:
    assert choose_format(form.value, "text/html", tasks=TASKS[:1], images=1) is form


@pytest.mark.parametrize(
    ("wanted", "accept", "tasks", "images", "words"),
    [
        ("png", "", 2, 1, "one task"),
        ("overlay", "", 2, 1, "one task"),
        ("zip", "", 1, 2, "one image"),
        ("npz", "", 1, 2, "one image"),
        ("hf", "", 2, 1, "one task"),
        ("coco", "", 1, 2, "one image"),
        ("tiff", "", 1, 1, "unknown format 'tiff'"),
        ("v2", "", 1, 1, "unknown format 'v2'"),
        (None, "image/png", 2, 1, "none of 'image/png'"),
        (None, "image/jpeg", 1, 1, "none of 'image/jpeg'"),
        (None, "application/json;q=0", 1, 1, "none of"),
    ],
)
def test_what_cannot_be_given(wanted: str | None, accept: str, tasks: int, images: int, words: str) -> None:
    with pytest.raises(NotAcceptableError, match=words):
        choose_format(wanted, accept, tasks=TASKS[:tasks], images=images)


@pytest.mark.parametrize("form", ["hf", "coco"])
@pytest.mark.parametrize("task", [Task.NORMALS, Task.DEPTH])
def test_forms_of_masks_refuse_tasks_without(form: str, task: Task) -> None:
    with pytest.raises(BadParameterError, match=f"task {task} has none; json, png, zip, npz, overlay carry it"):
        choose_format(form, "", tasks=(task,), images=1)


@given(st.none() | st.text(max_size=12), st.text(max_size=60), st.integers(1, 4), st.integers(1, 3))
def test_any_text_gives_a_form_that_can_be_given_or_a_refusal(
    wanted: str | None, accept: str, tasks: int, images: int
) -> None:
    try:
        form = choose_format(wanted, accept, tasks=TASKS[:tasks], images=images)
    except NotAcceptableError:
        return
    assert form is AnswerFormat.JSON or images == 1
    assert form not in {AnswerFormat.PNG, AnswerFormat.OVERLAY, AnswerFormat.HF, AnswerFormat.COCO} or tasks == 1
