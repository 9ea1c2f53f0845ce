"""From logits to the parts of an answer: documents, PNGs, arrays. Class maps are decided at the model's resolution."""

import base64
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from app.imaging.decode import Decoded
from app.imaging.overlay import blend
from app.imaging.rle import class_rle, find_runs
from app.intake.formats import AnswerFormat
from mtlora.outputs import Map, at_model_size
from mtlora.png import encode_map
from mtlora.prediction import map_of
from mtlora.spec import AdapterSpec, TaskSpec
from mtlora.tasks import TRAITS, Decode, Task

_WITH_PNG = {AnswerFormat.JSON, AnswerFormat.PNG, AnswerFormat.ZIP}
Document = dict[str, Any]

_BYTES_PER_PIXEL = {Decode.ARGMAX: 4, Decode.SIGMOID: 13, Decode.UNIT_VECTOR: 60, Decode.IDENTITY: 20}


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """What a client wants to see."""

    form: AnswerFormat
    pngs: bool = True  # in JSON
    rle: bool = False  # in JSON and zip
    logits: bool = False  # in npz


@dataclass(slots=True)
class Rendered:
    """The parts of one image's answer."""

    document: Document
    pngs: dict[Task, bytes] = field(default_factory=dict)
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
    rendered = Rendered({"image": {"width": decoded.width, "height": decoded.height}, "tasks": {}})
    arrays: dict[str, NDArray[Any]] = {}
    for task, coarse in logits.items():
        values = map_of(task, coarse, spec, decoded.height, decoded.width)
        if plan.form is AnswerFormat.NPZ:
            arrays[task.value] = values
            if plan.logits:
                arrays[f"logits_{task.value}"] = at_model_size(coarse, spec.image_size).numpy()
        elif photo is not None:
            rendered.body = blend(photo, values, spec.task(task))
        else:
            _add_map(rendered, values, spec.task(task), plan)
    if arrays:
        rendered.body = _npz(arrays)
    return rendered


def encode_bytes(tasks: Sequence[Task], pixels: int) -> int:
    """Memory that `render` takes at its peak, estimated."""
    return pixels * sum(_BYTES_PER_PIXEL[TRAITS[task].decode] for task in tasks)


def _add_map(rendered: Rendered, values: Map, spec: TaskSpec, plan: RenderPlan) -> None:
    document: Document = {}
    if plan.form in _WITH_PNG and (plan.pngs or plan.form is not AnswerFormat.JSON):
        encoded = encode_map(values, spec)
        rendered.pngs[spec.task] = encoded.png
        document["encoding"] = encoded.encoding
        if plan.form is AnswerFormat.JSON:
            document["png"] = base64.b64encode(encoded.png).decode("ascii")
    if plan.form is not AnswerFormat.PNG:
        document |= _facts(values, spec, rle=plan.rle)
    rendered.document["tasks"][spec.task.value] = document


def _facts(values: Map, spec: TaskSpec, *, rle: bool) -> Document:
    """What is worth knowing about a map without looking at it."""
    match TRAITS[spec.task].decode:
        case Decode.ARGMAX:
            return {"classes": _classes(values.astype(np.uint8, copy=False), spec, rle=rle)}
        case Decode.SIGMOID:
            return {"mean": round(float(values.mean()), 6)}
        case Decode.UNIT_VECTOR:
            return {"axes": spec.axes}
        case Decode.IDENTITY:
            return {"minimum": float(values.min()), "maximum": float(values.max()), "mean": float(values.mean())}


def _classes(class_map: NDArray[np.uint8], spec: TaskSpec, *, rle: bool) -> list[Document]:
    """The classes that are present, by id."""
    histogram = Image.fromarray(class_map, "L").histogram()  # bincount would make an int64 copy of the map
    runs = find_runs(class_map) if rle else None
    listed: list[Document] = []
    for index, known in enumerate(spec.classes):
        pixels = histogram[index]
        if not pixels:
            continue
        fraction = round(pixels / class_map.size, 6)
        listed.append(
            {"id": index, "name": known.name, "color": list(known.color), "pixels": pixels, "fraction": fraction}
        )
        if runs is not None:
            listed[-1]["rle"] = class_rle(runs, index)
    return listed


def to_json(document: object) -> bytes:
    """Compact JSON; a value that JSON cannot say is a bug here, not something to send."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()


def to_zip(rendered: Rendered) -> bytes:
    """One PNG per task, and `result.json`. Stored: PNGs do not shrink further."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for task, png in rendered.pngs.items():
            archive.writestr(f"{task.value}.png", png)
        archive.writestr("result.json", to_json(rendered.document))
    return buffer.getvalue()


def _npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
