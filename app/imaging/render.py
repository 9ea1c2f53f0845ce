"""From logits to the parts of an answer: documents, PNGs, arrays. Class maps are decided at the model's resolution."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pybase64
import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from PIL import Image

from app.imaging.decode import Decoded
from app.imaging.masks import to_coco, to_hf
from app.imaging.overlay import blend
from app.imaging.rle import class_rle, find_runs
from app.imaging.tensors import text_bytes, to_bytes, to_text
from app.intake.formats import AnswerFormat
from mtlora.outputs import PhotoMap, WholeMap, at_model_size, decode_coarse
from mtlora.png import EncodedMap, Painted, encode, encode_normals, paint
from mtlora.spec import AdapterSpec, TaskSpec
from mtlora.tasks import TRAITS, Decode, Task

_WITH_PNG = {AnswerFormat.JSON, AnswerFormat.PNG, AnswerFormat.ZIP}
_OF_PARTS = {*_WITH_PNG, AnswerFormat.V2}  # whose tasks can be rendered apart
_MOST_SIDE_BY_SIDE_BYTES = 256 << 20  # of four tasks as JSON some 20 megapixels
_HALVED_PIXELS = 1 << 18  # from here on a map of normals, which takes as long as three others, is made in two halves
Document = dict[str, Any]

# Bytes for each pixel of the photo: upper estimates, held against measured peaks by tests/app/imaging/test_memory.py.
_ARRAY_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 4, Decode.UNIT_VECTOR: 12, Decode.IDENTITY: 4}
_PAINTING_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 2, Decode.UNIT_VECTOR: 1, Decode.IDENTITY: 6}
_KEPT_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 1, Decode.UNIT_VECTOR: 2, Decode.IDENTITY: 2}
_KEPT_BYTES_JSON = {Decode.ARGMAX: 1, Decode.SIGMOID: 2, Decode.UNIT_VECTOR: 4, Decode.IDENTITY: 5}
_RLE_BYTES = 4
_WHOLE_BYTES = {
    AnswerFormat.OVERLAY: 28,  # the photo, decoded for it, included
    AnswerFormat.HF: 7,
    AnswerFormat.COCO: 6,
}


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """What a client wants to see."""

    form: AnswerFormat
    pngs: bool = True  # in JSON
    rle: bool = False  # in JSON and zip
    logits: bool = False  # in npz
    as_text: frozenset[Task] = frozenset()  # in v2: tensors as JSON rather than bytes
    most_values: int = 0  # that an image's tensor may have as JSON


@dataclass(slots=True)
class Rendered:
    """The parts of one image's answer."""

    width: int  # of the photo
    height: int
    documents: dict[Task, bytes] = field(default_factory=dict)  # JSON that says what a map holds
    maps: dict[Task, EncodedMap] = field(default_factory=dict)
    tensors: dict[Task, bytes] = field(default_factory=dict)  # little-endian, or JSON without its brackets
    body: bytes = b""  # the whole answer, for forms that need nothing else


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
    photo: Image.Image | None = None,
) -> Rendered:
    """What is asked for of one image, as far as it does not depend on when it was answered.

    logits: float32 [K, S/8, S/8] for each task of the share, or for more
    photo:  upright RGB, for an overlay
    """
    rendered = Rendered(decoded.width, decoded.height)
    arrays: dict[str, PhotoMap | WholeMap] = {}
    for task in share.tasks:
        coarse = logits[task]
        if _is_striped(plan, task):
            rows = share.rows(decoded.height)
            rendered.documents[task] = to_json({"axes": spec.task(task).axes})
            rendered.maps[task] = encode_normals(coarse, spec.image_size, decoded.height, decoded.width, *rows)
            continue
        source = PhotoMap(task, decode_coarse(task, coarse, spec.image_size), decoded.height, decoded.width)
        if plan.form is AnswerFormat.NPZ:
            arrays[task.value] = source
            if plan.logits:
                arrays[f"logits_{task.value}"] = WholeMap(at_model_size(coarse, spec.image_size).numpy())
        elif plan.form is AnswerFormat.V2:
            rendered.tensors[task] = to_text(source, plan.most_values) if task in plan.as_text else to_bytes(source)
        elif plan.form is AnswerFormat.HF:
            rendered.body = to_json(to_hf(source, coarse, spec.task(task)))
        elif plan.form is AnswerFormat.COCO:
            rendered.body = to_json(to_coco(source, coarse, spec.task(task)))
        elif photo is not None:
            rendered.body = blend(photo, paint(source, spec.task(task)), spec.task(task))
        else:
            _add_map(rendered, source, spec.task(task), plan)
    if arrays:
        rendered.body = _npz(arrays)
    return rendered


def separate(plan: RenderPlan, tasks: Sequence[Task], pixels: int) -> list[Share]:
    """What to render together: each task alone, the longest first and in halves, where that takes little memory."""
    most = encode_bytes(plan, tasks, pixels, side_by_side=True)
    if plan.form not in _OF_PARTS or most > _MOST_SIDE_BY_SIDE_BYTES:
        return [Share(tuple(tasks))]
    shares = []
    for task in sorted(tasks, key=lambda task: (not _is_striped(plan, task), -_PAINTING_BYTES[TRAITS[task].decode])):
        parts = 2 if _is_striped(plan, task) and pixels >= _HALVED_PIXELS else 1
        shares += [Share((task,), part, parts) for part in range(parts)]
    return shares


def join(rendered: Sequence[Rendered], tasks: Sequence[Task]) -> Rendered:
    """What `render` gives for all tasks, from what it gives for each of `separate`."""
    if len(rendered) == 1:
        return rendered[0]
    whole = Rendered(rendered[0].width, rendered[0].height)
    documents: dict[Task, bytes] = {}
    for part in rendered:
        whole.tensors |= part.tensors
        documents |= part.documents
        for task, encoded in part.maps.items():
            whole.maps[task] = whole.maps[task].above(encoded) if task in whole.maps else encoded
    whole.documents = {task: documents[task] for task in tasks if task in documents}
    return whole


def encode_bytes(plan: RenderPlan, tasks: Sequence[Task], pixels: int, *, side_by_side: bool = False) -> int:
    """Memory that `render` takes at its peak, an upper estimate: what it keeps of every task, and the largest step.

    side_by_side: the tasks are rendered at the same time (see `separate`)
    """
    kinds = [TRAITS[task].decode for task in tasks]
    if plan.form is AnswerFormat.NPZ:
        return pixels * 2 * sum(_ARRAY_BYTES[kind] for kind in kinds)  # a growing buffer may be copied
    if plan.form is AnswerFormat.V2:
        sizes = [text_bytes(task) if task in plan.as_text else _ARRAY_BYTES[TRAITS[task].decode] for task in tasks]
        return pixels * 2 * sum(sizes)  # bands, and all of them in one piece
    if plan.form in _WHOLE_BYTES:
        return pixels * _WHOLE_BYTES[plan.form]
    kept = _KEPT_BYTES_JSON if plan.form is AnswerFormat.JSON else _KEPT_BYTES
    steps = [_PAINTING_BYTES[kind] + (_RLE_BYTES if plan.rle else 0) for kind in kinds]
    return pixels * ((sum if side_by_side else max)(steps) + sum(kept[kind] for kind in kinds))


def to_document(rendered: Rendered, about: Document, *, with_png: bool = True) -> list[bytes]:
    """Pieces of the JSON of one image's answer; `about`: what is said of it beside its size and its maps.

    with_png: whether maps that were encoded are in it
    """
    size = to_json({"width": rendered.width, "height": rendered.height})
    pieces = [b'{"image":', size, b',"tasks":{']
    for number, (task, facts) in enumerate(rendered.documents.items()):
        pieces += [b"," if number else b"", b'"', task.value.encode(), b'":']
        if task in rendered.maps:
            encoded = rendered.maps[task]
            pieces += [to_json({"encoding": encoded.encoding})[:-1], b","]
            if with_png:
                # Put in as it is: a string of a megabyte would be searched for what must be escaped, and copied.
                pieces += [b'"png":"', pybase64.b64encode(encoded.png), b'",']
            facts = facts[1:]
        pieces.append(facts)
    return [*pieces, b"},", to_json(about)[1:]]


def _has_png(plan: RenderPlan) -> bool:
    return plan.form in _WITH_PNG and (plan.pngs or plan.form is not AnswerFormat.JSON)


def _is_striped(plan: RenderPlan, task: Task) -> bool:
    """Whether the task's map is nothing but a picture that can be made row by row."""
    return _has_png(plan) and TRAITS[task].decode is Decode.UNIT_VECTOR


def _add_map(rendered: Rendered, source: PhotoMap, spec: TaskSpec, plan: RenderPlan) -> None:
    if TRAITS[spec.task].decode is Decode.UNIT_VECTOR:
        rendered.documents[spec.task] = to_json({"axes": spec.axes})
        return
    painted = paint(source, spec)
    rendered.documents[spec.task] = to_json(_facts(painted, spec, rle=plan.rle and plan.form is not AnswerFormat.PNG))
    if _has_png(plan):
        rendered.maps[spec.task] = encode(painted, spec)


def _facts(painted: Painted, spec: TaskSpec, *, rle: bool) -> Document:
    """What is worth knowing about a map without looking at it."""
    kind = TRAITS[spec.task].decode
    if kind is Decode.ARGMAX:
        return {"classes": _classes(painted, spec, rle=rle)}
    if kind is Decode.SIGMOID:
        return {"mean": round(painted.mean, 6)}
    return {"minimum": painted.minimum, "maximum": painted.maximum, "mean": painted.mean}


def _classes(painted: Painted, spec: TaskSpec, *, rle: bool) -> list[Document]:
    """The classes that are present, by id."""
    runs = find_runs(painted.pixels.astype(np.uint8, copy=False)) if rle else None
    listed: list[Document] = []
    for index, known in enumerate(spec.classes):
        pixels = painted.counts[index]
        if not pixels:
            continue
        fraction = round(pixels / painted.pixels.size, 6)
        listed.append(
            {"id": index, "name": known.name, "color": list(known.color), "pixels": pixels, "fraction": fraction}
        )
        if runs is not None:
            listed[-1]["rle"] = class_rle(runs, index)
    return listed


def to_json(document: object) -> bytes:
    """Compact JSON; a value that JSON cannot say is a bug here, not something to send."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()


def to_zip(rendered: Rendered, about: Document) -> bytes:
    """One PNG per task, and `result.json`. Stored: PNGs do not shrink further."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for task in rendered.documents:
            archive.writestr(f"{task.value}.png", rendered.maps[task].png)
        archive.writestr("result.json", b"".join(to_document(rendered, about, with_png=False)))
    return buffer.getvalue()


def _npz(arrays: Mapping[str, PhotoMap | WholeMap]) -> bytes:
    """As `numpy.savez` writes it, but band by band."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, source in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                for number, band in enumerate(source.bands()):
                    if not number:
                        header = {"descr": dtype_to_descr(band.dtype), "fortran_order": False, "shape": source.shape}
                        write_array_header_1_0(member, header)
                    member.write(np.ascontiguousarray(band).data.cast("B"))
    return buffer.getvalue()
