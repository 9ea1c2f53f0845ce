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
from mtlora.png import Painted, encode, paint
from mtlora.spec import AdapterSpec, TaskSpec
from mtlora.tasks import TRAITS, Decode, Task

_WITH_PNG = {AnswerFormat.JSON, AnswerFormat.PNG, AnswerFormat.ZIP}
_OF_PARTS = {AnswerFormat.JSON, AnswerFormat.ZIP, AnswerFormat.V2}  # whose tasks can be rendered apart
_MOST_SIDE_BY_SIDE_BYTES = 256 << 20  # of four tasks as JSON some 12 megapixels
Document = dict[str, Any]

# Bytes for each pixel of the photo: upper estimates, held against measured peaks by tests/app/imaging/test_memory.py.
_ARRAY_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 4, Decode.UNIT_VECTOR: 12, Decode.IDENTITY: 4}
_PAINTING_BYTES = {Decode.ARGMAX: 1, Decode.SIGMOID: 2, Decode.UNIT_VECTOR: 5, Decode.IDENTITY: 6}
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
    documents: dict[Task, list[bytes]] = field(default_factory=dict)  # pieces of JSON that say what a map holds
    pngs: dict[Task, bytes] = field(default_factory=dict)  # where they are not in the document
    tensors: dict[Task, bytes] = field(default_factory=dict)  # little-endian, or JSON without its brackets
    body: bytes = b""  # the whole answer, for forms that need nothing else


def render(
    logits: Mapping[Task, torch.Tensor],
    decoded: Decoded,
    spec: AdapterSpec,
    plan: RenderPlan,
    photo: Image.Image | None = None,
) -> Rendered:
    """Everything about one image that does not depend on when it was answered.

    logits: float32 [K, S/8, S/8] for each task asked for
    photo:  upright RGB, for an overlay
    """
    rendered = Rendered(decoded.width, decoded.height)
    arrays: dict[str, PhotoMap | WholeMap] = {}
    for task, coarse in logits.items():
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


def separate(plan: RenderPlan, tasks: Sequence[Task], pixels: int) -> list[tuple[Task, ...]]:
    """Which tasks to render together: each alone where that is possible and takes little memory, the longest first."""
    most = encode_bytes(plan, tasks, pixels, side_by_side=True)
    if plan.form not in _OF_PARTS or most > _MOST_SIDE_BY_SIDE_BYTES:
        return [tuple(tasks)]
    return [(task,) for task in sorted(tasks, key=lambda task: -_PAINTING_BYTES[TRAITS[task].decode])]


def join(parts: Sequence[Rendered], tasks: Sequence[Task]) -> Rendered:
    """What `render` gives for all tasks, from what it gives for each of `separate`."""
    if len(parts) == 1:
        return parts[0]
    whole = Rendered(parts[0].width, parts[0].height)
    for part in parts:
        whole.pngs |= part.pngs
        whole.tensors |= part.tensors
    documents = {task: document for part in parts for task, document in part.documents.items()}
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


def to_document(rendered: Rendered, about: Document) -> list[bytes]:
    """Pieces of the JSON of one image's answer; `about`: what is said of it beside its size and its maps."""
    size = to_json({"width": rendered.width, "height": rendered.height})
    pieces = [b'{"image":', size, b',"tasks":{']
    for number, (task, document) in enumerate(rendered.documents.items()):
        pieces += [b"," if number else b"", b'"', task.value.encode(), b'":', *document]
    return [*pieces, b"},", to_json(about)[1:]]


def _add_map(rendered: Rendered, source: PhotoMap, spec: TaskSpec, plan: RenderPlan) -> None:
    facts: Document = {}
    with_png = plan.form in _WITH_PNG and (plan.pngs or plan.form is not AnswerFormat.JSON)
    kind = TRAITS[spec.task].decode
    painted = paint(source, spec) if with_png or kind is not Decode.UNIT_VECTOR else None
    if painted is None or kind is Decode.UNIT_VECTOR:
        facts["axes"] = spec.axes
    elif plan.form is not AnswerFormat.PNG:
        facts |= _facts(painted, spec, rle=plan.rle)
    if painted is None or not with_png:
        rendered.documents[spec.task] = [to_json(facts)]
        return
    encoded = encode(painted, spec)
    if plan.form is AnswerFormat.JSON:
        # Put in as it is: a string of a megabyte would be searched for what must be escaped, and copied.
        png = [
            to_json({"encoding": encoded.encoding})[:-1],
            b',"png":"',
            pybase64.b64encode(encoded.png),
        ]
        rendered.documents[spec.task] = [*png, b'",', to_json(facts)[1:]]
    else:
        rendered.pngs[spec.task] = encoded.png
        rendered.documents[spec.task] = [to_json({"encoding": encoded.encoding} | facts)]


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
            archive.writestr(f"{task.value}.png", rendered.pngs[task])
        archive.writestr("result.json", b"".join(to_document(rendered, about)))
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
