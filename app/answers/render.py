"""Rendering: logits to maps, and those to the parts of an answer."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from app.answers.archives import archive_of, archived, npz
from app.answers.costs import encode_bytes
from app.answers.documents import begun, closed, facts_of
from app.answers.form import AnswerFormat, Document, Pieces, to_json
from app.answers.forms import FORMS
from app.answers.oip_tensors import to_bytes, to_text
from app.answers.plan import Extent, RenderPlan
from app.answers.rendered import Rendered
from app.answers.subject import Subject
from app.core.decoded_photo import Decoded
from mtlora.maps.map_png import Painting, encode, encode_normals
from mtlora.maps.postprocessing import PhotoMap, WholeMap, at_model_size, photo_map
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.stopping import Check, never
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

_OF_PARTS = {AnswerFormat.JSON, AnswerFormat.PNG, AnswerFormat.ZIP, AnswerFormat.V2}  # tasks can be rendered apart
_MOST_SIDE_BY_SIDE_BYTES = 256 << 20  # of four tasks as JSON some 20 megapixels
_HALVED_PIXELS = 1 << 18  # from here on a map of normals, which takes as long as three others, is made in two halves
_LONGEST = {Decode.UNIT_VECTOR: 3, Decode.IDENTITY: 2, Decode.SIGMOID: 1, Decode.ARGMAX: 0}


@dataclass(frozen=True, slots=True)
class Share:
    """What one thread renders of an answer: whole tasks, or one part of the rows of a single task's picture."""

    tasks: tuple[Task, ...]
    part: int = 0
    parts: int = 1

    def rows(self, height: int) -> tuple[int, int]:
        """The first row, and the one behind the last."""
        return height * self.part // self.parts, height * (self.part + 1) // self.parts


def render(
    logits: Mapping[Task, torch.Tensor],
    decoded: Decoded,
    spec: AdapterSpec,
    plan: RenderPlan,
    share: Share,
    *,
    photo: Callable[[], NDArray[np.uint8]] | None = None,
    check: Check = never,
) -> Rendered:
    """What is asked for of one image, as far as it does not depend on when it was answered.

    logits: float32 [K, S/8, S/8] for each task of the share, or for more; of a photo in tiles, those of all of it
    photo:  gives the upright photo, uint8 [H, W, 3], for an overlay
    check:  raises where nobody needs the answer any more
    """
    rendered = Rendered(decoded.width, decoded.height, decoded.photo_size, decoded.orientation)
    arrays: dict[str, PhotoMap | WholeMap] = {}
    draw, seen = FORMS[plan.form].draw, decoded.model_size(spec.image_size)
    for task in share.tasks:
        check()
        coarse, own = logits[task], spec.task(task)
        if _is_striped(plan, task):
            sizes = (seen, decoded.height, decoded.width, *share.rows(decoded.height))
            rendered.maps[task] = encode_normals(coarse, *sizes, check)
            rendered.documents |= {task: to_json({"axes": own.axes})} if plan.has_documents else {}
            continue
        size = decoded.height, decoded.width
        source = photo_map(task, coarse, seen, size, check, nearest_edges=plan.nearest_edges)
        if plan.form is AnswerFormat.NPZ:
            arrays[task.value] = source
            if plan.logits:
                arrays[f"logits_{task.value}"] = WholeMap(at_model_size(coarse, seen).numpy())
        elif plan.form is AnswerFormat.V2:
            rendered.tensors[task] = to_text(source, plan.most_values) if task in plan.as_text else [to_bytes(source)]
        elif draw is not None:
            rendered.body = draw(Subject(source, coarse, own, plan, photo))
        else:
            _add_map(rendered, source, own, plan)
    if arrays:
        rendered.body = [npz(arrays)]
    return rendered


def separate(plan: RenderPlan, tasks: Sequence[Task], extent: Extent) -> list[Share]:
    """What to render together: each task alone, the longest first and in halves, where that takes little memory."""
    most = encode_bytes(plan, tasks, extent, side_by_side=True)
    if plan.form not in _OF_PARTS or most > _MOST_SIDE_BY_SIDE_BYTES:
        return [Share(tuple(tasks))]
    shares = []
    for task in sorted(tasks, key=lambda task: (not _is_striped(plan, task), -_LONGEST[TRAITS[task].decode])):
        parts = 2 if _is_striped(plan, task) and extent.height > 1 and extent.pixels >= _HALVED_PIXELS else 1
        shares += [Share((task,), part, parts) for part in range(parts)]
    return shares


def join(rendered: Sequence[Rendered], tasks: Sequence[Task]) -> Rendered:
    """What `render` gives for all tasks, from what it gives for each of `separate`."""
    if len(rendered) == 1:
        return rendered[0]
    first = rendered[0]
    whole = Rendered(first.width, first.height, first.photo_size, first.orientation)
    documents: dict[Task, bytes] = {}
    for part in rendered:
        whole.tensors |= part.tensors
        documents |= part.documents
        for task, encoded in part.maps.items():
            whole.maps[task] = whole.maps[task].above(encoded) if task in whole.maps else encoded
    whole.documents = {task: documents[task] for task in tasks if task in documents}
    return whole


@dataclass(frozen=True, slots=True)
class Made:
    """One image's answer in bytes, but for what is known only once the whole request is answered.

    end: the bytes; what is said of the answer beside the photo's size and the maps is asked for where it shows; quick
    """

    width: int  # of the photo
    height: int
    tensors: Mapping[Task, Pieces]
    end: Callable[[Callable[[], Document]], Pieces]


def put_together(rendered: Rendered, tasks: Sequence[Task], plan: RenderPlan) -> Made:
    """The form asked for, of all that `render` made; the maps are used up."""
    match plan.form:
        case AnswerFormat.JSON:
            end = partial(closed, begun(rendered))
        case AnswerFormat.ZIP:
            end = partial(archived, archive_of(rendered), begun(rendered, with_png=False))
        case AnswerFormat.PNG:
            end = partial(_whole, [*rendered.maps[tasks[0]].picture.pieces()])
        case _:
            end = partial(_whole, rendered.body)
    return Made(rendered.width, rendered.height, rendered.tensors, end)


def _whole(pieces: Pieces, _: Callable[[], Document]) -> Pieces:
    return pieces


def _is_striped(plan: RenderPlan, task: Task) -> bool:
    """Whether the task's map is nothing but a picture that can be made row by row."""
    return plan.has_pngs and TRAITS[task].decode is Decode.UNIT_VECTOR


def _add_map(rendered: Rendered, source: PhotoMap, spec: TaskSpec, plan: RenderPlan) -> None:
    kind = TRAITS[spec.task].decode
    if kind is Decode.UNIT_VECTOR:
        rendered.documents[spec.task] = to_json({"axes": spec.axes})
        return
    painting = Painting(source, spec)
    if plan.has_pngs:
        rendered.maps[spec.task] = encode(painting)
    elif kind is Decode.SIGMOID or source.scores is not None:
        deque(painting.bands(), maxlen=0)  # its mean, or its counts, are those of its pixels
    if not plan.has_documents:
        return
    labels = None
    if kind is Decode.ARGMAX and (plan.rle or plan.polygons):
        labels = source.whole().astype(np.uint8, copy=False)
    rendered.documents[spec.task] = to_json(facts_of(painting, labels, rle=plan.rle))
