"""Answers to POST /predict as arrays or as PNG files."""

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from mtlora.errors import BadAnswerError, TaskError

LOGITS = "logits_"
_PNG_NAME = re.compile(r"([a-z][a-z0-9_]{0,31})\.png")  # a server's words become names of files: nothing else will do
_RECORD = "result.json"


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The maps of one photo, of the upright photo's size.

    adapter: NAME@REVISION that answered
    cold:    whether this request waited for its set to be loaded
    maps:    by task: class maps uint8 [H, W]; saliency, edge float32 [H, W] in 0..1; normals float32 [H, W, 3], unit
             length; depth float32 [H, W], metres
    logits:  by task, float32 [K, S, S] at the model's resolution; empty unless asked for
    """

    adapter: str
    cold: bool
    maps: Mapping[str, NDArray[Any]]
    logits: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

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

    adapter: NAME@REVISION that answered
    pngs:    by task; class maps 8-bit palette (value = class id), saliency 8-bit grey, normals RGB, depth 16-bit grey
    record:  the server's JSON without the PNGs: adapter, size, classes present, timings
    """

    adapter: str
    pngs: Mapping[str, bytes]
    record: Mapping[str, Any]


def read_prediction(response: httpx.Response) -> Prediction:
    """The arrays of an answer in form npz; pickled ones are refused."""
    try:
        with np.load(io.BytesIO(response.content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise BadAnswerError(f"{response.request.url} answered no .npz: {error}") from error
    return Prediction(
        adapter=_answered_by(response),
        cold=response.headers.get("X-Adapter-Cold") == "1",
        maps={name: array for name, array in arrays.items() if not name.startswith(LOGITS)},
        logits={name.removeprefix(LOGITS): array for name, array in arrays.items() if name.startswith(LOGITS)},
    )


def read_pictures(response: httpx.Response) -> Pictures:
    """The files of an answer in form zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            record = json.loads(archive.read(_RECORD))
            names = [(match[1], name) for name in archive.namelist() if (match := _PNG_NAME.fullmatch(name))]
            pngs = {task: archive.read(name) for task, name in names}
    # NotImplementedError is what zipfile raises for a compression that it does not know.
    except (ValueError, KeyError, OSError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise BadAnswerError(f"{response.request.url} answered no zip of maps: {error}") from error
    if not isinstance(record, dict):
        raise BadAnswerError(f"{response.request.url}: {_RECORD} is no object but {type(record).__name__}")
    return Pictures(_answered_by(response), pngs, record)


def _answered_by(response: httpx.Response) -> str:
    return str(response.headers.get("X-Adapter-Revision", ""))
