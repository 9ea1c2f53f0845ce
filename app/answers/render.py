"""Rendering: logits to documents, PNGs and arrays. Class maps are decided at the model's resolution."""

import json
import math
import time
import zipfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, cast

import numpy as np
import pybase64
import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from app.answers.masks import to_coco, to_hf
from app.answers.negotiation import AnswerFormat
from app.answers.oip_tensors import own_memory, to_bytes, to_text
from app.answers.overlay import blend
from app.answers.plan import Extent, RenderPlan, encode_bytes
from app.answers.run_lengths import Runs, class_rle, find_runs
from app.core.decoded_photo import Decoded
from mtlora.maps.map_png import EncodedMap, Painting, encode, encode_normals
from mtlora.maps.postprocessing import PhotoMap, WholeMap, at_model_size, decode_coarse
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
from mtlora.vocabulary.stopping import Check, never
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

_OF_PARTS = {AnswerFormat.JSON, AnswerFormat.PNG, AnswerFormat.ZIP, AnswerFormat.V2}  # tasks can be rendered apart
_MOST_SIDE_BY_SIDE_BYTES = 256 << 20  # of four tasks as JSON some 20 megapixels
_HALVED_PIXELS = 1 << 18  # from here on a map of normals, which takes as long as three others, is made in two halves
Document = dict[str, Any]
Pieces = list[bytes | memoryview]

_LONGEST = {Decode.UNIT_VECTOR: 3, Decode.IDENTITY: 2, Decode.SIGMOID: 1, Decode.ARGMAX: 0}
_MEMBER_BYTES = 1 << 10  # of an archive's names and headers, for each member and its end
_SAID_BYTES = 1 << 10  # of a document beside what its map holds: names, and what is known last


@dataclass(slots=True)
class Rendered:
    """The parts of one image's answer."""

    width: int  # of the photo
    height: int
    documents: dict[Task, bytes] = field(default_factory=dict)  # JSON that says what a map holds
    maps: dict[Task, EncodedMap] = field(default_factory=dict)
    tensors: dict[Task, Pieces] = field(default_factory=dict)  # little-endian, or JSON without its brackets
    body: Pieces = field(default_factory=list)  # the whole answer, for forms that need nothing else


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

    logits: float32 [K, S/8, S/8] for each task of the share, or for more
    photo:  gives the upright photo, uint8 [H, W, 3], for an overlay
    check:  raises where nobody needs the answer any more
    """
    rendered = Rendered(decoded.width, decoded.height)
    arrays: dict[str, PhotoMap | WholeMap] = {}
    for task in share.tasks:
        check()
        coarse, own = logits[task], spec.task(task)
        if _is_striped(plan, task):
            sizes = (spec.image_size, decoded.height, decoded.width, *share.rows(decoded.height))
            rendered.maps[task] = encode_normals(coarse, *sizes, check)
            rendered.documents |= {task: to_json({"axes": own.axes})} if plan.has_documents else {}
            continue
        source = PhotoMap(task, decode_coarse(task, coarse, spec.image_size), decoded.height, decoded.width, check)
        if plan.form is AnswerFormat.NPZ:
            arrays[task.value] = source
            if plan.logits:
                arrays[f"logits_{task.value}"] = WholeMap(at_model_size(coarse, spec.image_size).numpy())
        elif plan.form is AnswerFormat.V2:
            rendered.tensors[task] = to_text(source, plan.most_values) if task in plan.as_text else [to_bytes(source)]
        elif plan.form is AnswerFormat.HF:
            rendered.body = [to_json(to_hf(source, coarse, own, plan.least_score))]
        elif plan.form is AnswerFormat.COCO:
            rendered.body = [to_json(to_coco(source, coarse, own, plan.least_score))]
        elif photo is not None:
            rendered.body = [*blend(photo(), Painting(source, own))]
        else:
            _add_map(rendered, source, own, plan)
    if arrays:
        rendered.body = [_npz(arrays)]
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
    whole = Rendered(rendered[0].width, rendered[0].height)
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
            end = partial(_closed, _begun(rendered))
        case AnswerFormat.ZIP:
            end = partial(_archived, _archive_of(rendered), _begun(rendered, with_png=False))
        case AnswerFormat.PNG:
            end = partial(_whole, [*rendered.maps[tasks[0]].picture.pieces()])
        case _:
            end = partial(_whole, rendered.body)
    return Made(rendered.width, rendered.height, rendered.tensors, end)


def _whole(pieces: Pieces, _: Callable[[], Document]) -> Pieces:
    return pieces


def _begun(rendered: Rendered, *, with_png: bool = True) -> Pieces:
    """Pieces of the JSON of one image's answer, up to where it says what is known last.

    with_png: whether maps that were encoded are in it
    """
    size = to_json({"width": rendered.width, "height": rendered.height})
    pieces: Pieces = [b'{"image":', size, b',"tasks":{']
    for number, (task, facts) in enumerate(rendered.documents.items()):
        pieces += [b"," if number else b"", b'"', task.value.encode(), b'":']
        if task in rendered.maps:
            encoded = rendered.maps[task]
            pieces += [to_json({"encoding": encoded.encoding})[:-1], b","]
            if with_png:
                # Put in as it is: a string of a megabyte would be searched for what must be escaped, and copied.
                pieces += [b'"png":"', pybase64.b64encode(encoded.png), b'",']
                del rendered.maps[task], encoded
            facts = facts[1:]
        pieces.append(facts)
    return [*pieces, b"},"]


def _closed(pieces: Pieces, about: Callable[[], Document]) -> Pieces:
    return [*pieces, to_json(about())[1:]]


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
    elif kind is Decode.SIGMOID:
        deque(painting.bands(), maxlen=0)  # its mean is that of its pixels
    if not plan.has_documents:
        return
    runs = None
    if kind is Decode.ARGMAX and plan.rle:
        runs = find_runs(source.whole().astype(np.uint8, copy=False), source.check)
    rendered.documents[spec.task] = to_json(_facts(painting, runs))


def _facts(painting: Painting, runs: Runs | None) -> Document:
    """What is worth knowing about a map without looking at it."""
    kind = TRAITS[painting.spec.task].decode
    if kind is Decode.ARGMAX:
        return {"classes": _classes(painting, runs)}
    if kind is Decode.SIGMOID:
        return {"mean": round(painting.mean, 6)}
    return {"minimum": painting.minimum, "maximum": painting.maximum, "mean": painting.mean}


def _classes(painting: Painting, runs: Runs | None) -> list[Document]:
    """The classes that are present, by id."""
    listed: list[Document] = []
    for index, known in enumerate(painting.spec.classes):
        pixels = painting.counts[index]
        if not pixels:
            continue
        fraction = round(pixels / math.prod(painting.shape), 6)
        listed.append(
            {"id": index, "name": known.name, "color": list(known.color), "pixels": pixels, "fraction": fraction}
        )
        if runs is not None:
            painting.check()
            listed[-1]["rle"] = class_rle(runs, index)
    return listed


def to_json(document: object) -> bytes:
    """Compact JSON; a value that JSON cannot say is a bug here, not something to send."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()


def _archive_of(rendered: Rendered) -> "_Archive":
    """One PNG per task, and room for `result.json`. Stored: PNGs do not shrink further."""
    members = {f"{task.value}.png": rendered.maps[task].picture.pieces() for task in rendered.documents}
    said = sum(map(len, rendered.documents.values())) + _SAID_BYTES * (len(members) + 1)
    archive = _Archive(sum(len(piece) for pieces in members.values() for piece in pieces) + said, len(members) + 1)
    for name, pieces in members.items():
        archive.add(name, pieces)
    return archive


def _archived(archive: "_Archive", begun: Pieces, about: Callable[[], Document]) -> Pieces:
    archive.add("result.json", _closed(begun, about))
    return [archive.written()]


def _npz(arrays: Mapping[str, PhotoMap | WholeMap]) -> memoryview:
    """As `numpy.savez` writes it, but band by band."""
    archive = _Archive(sum(source.nbytes for source in arrays.values()), len(arrays))
    for name, source in arrays.items():
        with archive.zip.open(f"{name}.npy", "w", force_zip64=True) as member:
            for number, band in enumerate(source.bands()):
                if not number:
                    header = {"descr": dtype_to_descr(band.dtype), "fortran_order": False, "shape": source.shape}
                    write_array_header_1_0(member, header)
                member.write(np.ascontiguousarray(band).data.cast("B"))
    return archive.written()


class _Archive:
    """A zip file in memory of its own: in one piece from the start, so it is never copied."""

    def __init__(self, nbytes: int, members: int) -> None:
        self._room = own_memory(nbytes + _MEMBER_BYTES * (members + 1))
        self.zip = zipfile.ZipFile(cast(IO[bytes], self._room), "w", zipfile.ZIP_STORED)

    def add(self, name: str, pieces: Sequence[bytes | memoryview]) -> None:
        """A member, as it is."""
        known = zipfile.ZipInfo(name, time.localtime()[:6])
        known.external_attr, known.file_size = 0o600 << 16, sum(map(len, pieces))
        with self.zip.open(known, "w") as member:
            member.writelines(pieces)

    def written(self) -> memoryview:
        """The file, which is complete now."""
        self.zip.close()
        return memoryview(self._room)[: self._room.tell()]
