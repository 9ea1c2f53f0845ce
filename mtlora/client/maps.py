"""Answers to POST /predict as arrays or as PNG files."""

import base64
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mtlora.client.answers import answered_by, read_json, read_object
from mtlora.client.archive import archive
from mtlora.client.arrays import read_arrays
from mtlora.client.reply import Reply
from mtlora.vocabulary.errors import BadAnswerError, TaskError
from mtlora.vocabulary.shown import shown
from mtlora.vocabulary.tasks import TRAITS, Decode

LOGITS = "logits_"
TASK_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")  # a server's words become names of files: nothing else will do
_SHARE = re.compile(r"0(\.[0-9]{1,20})?|1(\.0{1,20})?")
_PNG = ".png"
_RECORD = "result.json"
RECORD_BYTES = 8 * 2**20  # with polygons: 200,000 points
_PNG_MARK = b"\x89PNG\r\n\x1a\n"
_OF_DECODE: Mapping[Decode, tuple[DTypeLike, tuple[int, ...]]] = {
    Decode.ARGMAX: (np.uint8, ()),
    Decode.SIGMOID: (np.float32, ()),
    Decode.UNIT_VECTOR: (np.float32, (3,)),
    Decode.IDENTITY: (np.float32, ()),
}
_KINDS = {task.value: _OF_DECODE[traits.decode] for task, traits in TRAITS.items()}
"""By task: type of its map, and what its shape has behind [H, W]."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The maps of one photo, of the upright photo's size.

    adapter: NAME@REVISION that answered
    cold:    whether this request waited for its set to be loaded
    maps:    by task: class maps uint8 [H, W]; saliency, edge float32 [H, W] in 0..1; normals float32 [H, W, 3], unit
             length; depth float32 [H, W], metres
    logits:  by task, float32 [K, S, S] at the model's resolution; empty unless asked for
    share:   of the encoder's blocks that was computed, in 0..1; None: the server did not say
    """

    adapter: str
    cold: bool
    maps: Mapping[str, NDArray[Any]]
    logits: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    share: float | None = None

    @property
    def semseg(self) -> NDArray[np.uint8]:
        """uint8 [H, W], class of every pixel."""
        return self._map("semseg")

    @property
    def human_parts(self) -> NDArray[np.uint8]:
        """uint8 [H, W], part of every pixel, 0 background."""
        return self._map("human_parts")

    @property
    def saliency(self) -> NDArray[np.float32]:
        """float32 [H, W] in 0..1."""
        return self._map("saliency")

    @property
    def normals(self) -> NDArray[np.float32]:
        """float32 [H, W, 3], unit length; the set says its axes."""
        return self._map("normals")

    @property
    def edge(self) -> NDArray[np.float32]:
        """float32 [H, W] in 0..1."""
        return self._map("edge")

    @property
    def depth(self) -> NDArray[np.float32]:
        """float32 [H, W], metres."""
        return self._map("depth")

    def _map(self, task: str) -> NDArray[Any]:
        if task not in self.maps:
            raise TaskError(f"this prediction of {self.adapter} has no {task}; it has {', '.join(self.maps)}")
        return self.maps[task]


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The maps of one photo as the server's PNG files.

    adapter:  NAME@REVISION that answered
    pngs:     by task; class maps 8-bit palette (value = class id), saliency 8-bit grey, normals RGB, depth 16-bit grey
    record:   the server's JSON without the PNGs: adapter, size, classes present (with run lengths or polygons, if asked
              for), timings
    computed: where something was computed, a grey PNG of a pixel for each 4 x 4 patch; empty unless asked for
    """

    adapter: str
    pngs: Mapping[str, bytes]
    record: Mapping[str, Any]
    computed: bytes = b""


def read_prediction(reply: Reply, tasks: Collection[str] = ()) -> Prediction:
    """The arrays of an answer in form npz, those of `tasks` among them."""
    with archive(reply, ".npz") as file:
        arrays = read_arrays(file)
    maps = {name: array for name, array in arrays.items() if not name.startswith(LOGITS)}
    _check_tasks(reply, tasks, maps)
    _check_kinds(reply, maps)
    return Prediction(
        adapter=answered_by(reply),
        cold=reply.header("X-Adapter-Cold") == "1",
        maps=maps,
        logits={name.removeprefix(LOGITS): array for name, array in arrays.items() if name.startswith(LOGITS)},
        share=share_of(reply),
    )


def read_pictures(reply: Reply, tasks: Collection[str] = ()) -> Pictures:
    """The files of an answer in form zip, those of `tasks` among them."""
    with archive(reply, "zip of maps") as file:
        if file.sizes.get(_RECORD, 0) > RECORD_BYTES:
            raise BadAnswerError(f"{reply.url}: {_RECORD} has {file.sizes[_RECORD]} bytes; at most {RECORD_BYTES}")
        record = read_object(reply, file.bytes(_RECORD), _RECORD)
        names = {name.removesuffix(_PNG): name for name in file.sizes if name.endswith(_PNG)}
        pngs = {
            task: read_png(reply, file.bytes(name), name) for task, name in names.items() if TASK_NAME.fullmatch(task)
        }
    _check_tasks(reply, tasks, pngs)
    json.dumps(record, allow_nan=False)  # 1e999 is a number to JSON and infinite here; it could not be written again
    return Pictures(answered_by(reply), pngs, record)


def read_explained(reply: Reply, tasks: Collection[str] = ()) -> Pictures:
    """The files of an answer in form json, in which the picture of what was computed is one more."""
    record = dict(read_object(reply, reply.body, "the answer"))
    described, about = record.get("tasks"), record.get("compute")
    if not isinstance(described, dict) or not isinstance(about, dict):
        raise BadAnswerError(f"{reply.url}: the answer has no tasks, or does not say what was computed")
    pngs: dict[str, bytes] = {}
    record["tasks"], record["compute"] = {}, dict(about)
    for task, found in described.items():
        if isinstance(found, dict) and TASK_NAME.fullmatch(task):
            pngs[task] = _decoded(reply, found.get("png"), task)
            record["tasks"][task] = {name: value for name, value in found.items() if name != "png"}
    computed = _decoded(reply, record["compute"].pop("png", None), "compute")
    _check_tasks(reply, tasks, pngs)
    return Pictures(answered_by(reply), pngs, record, computed)


def read_annotations(reply: Reply) -> Any:
    """The JSON of an answer in a form of other tools: an object, or a list."""
    return read_json(reply, reply.body, "the answer")


def share_of(reply: Reply) -> float | None:
    """What X-Compute-Share says, if it says a share."""
    found = _SHARE.fullmatch(reply.header("X-Compute-Share"))
    return float(found[0]) if found else None


def _decoded(reply: Reply, text: object, what: str) -> bytes:
    try:
        return read_png(reply, base64.b64decode(text if isinstance(text, str) else "", validate=True), what)
    except ValueError:
        raise BadAnswerError(f"{reply.url}: {what} is no base64") from None


def read_png(reply: Reply, content: bytes, what: str = "it") -> bytes:
    """A picture, unread: whether it begins as one."""
    if not content.startswith(_PNG_MARK):
        raise BadAnswerError(f"{reply.url}: {what} is no PNG: it begins with {content[:8]!r}")
    return content


def _check_tasks(reply: Reply, tasks: Collection[str], found: Collection[str]) -> None:
    missing = [task for task in tasks if task not in found]
    if missing:
        raise BadAnswerError(
            f"{reply.url} answered without {', '.join(missing)}; there is {shown(', '.join(found)) or 'nothing'}"
        )


def _check_kinds(reply: Reply, maps: Mapping[str, NDArray[Any]]) -> None:
    """Maps are what `Prediction` says of them, and of one size."""
    for name, array in maps.items():
        if name not in _KINDS:
            continue
        kind, behind = _KINDS[name]
        if array.dtype != kind or array.ndim != 2 + len(behind) or array.shape[2:] != behind:
            raise BadAnswerError(f"{reply.url}: {name} is {array.dtype} {list(array.shape)}, which is no such map")
    if len({array.shape[:2] for name, array in maps.items() if name in _KINDS}) > 1:
        sizes = ", ".join(f"{name} {list(array.shape[:2])}" for name, array in maps.items())
        raise BadAnswerError(f"{reply.url}: maps of one photo differ in size: {shown(sizes)}")
