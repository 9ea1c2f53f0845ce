"""Maps as the tensors of the Open Inference Protocol: numbers as bytes, or as text of JSON."""

import json
import math
import mmap

import numpy as np

from app.core.errors import NotAcceptableError
from mtlora.maps.postprocessing import PhotoMap
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

_DATATYPES = {Decode.ARGMAX: "UINT8", Decode.SIGMOID: "FP32", Decode.UNIT_VECTOR: "FP32", Decode.IDENTITY: "FP32"}
_TEXT_BYTES = {Decode.ARGMAX: 3, Decode.SIGMOID: 22, Decode.UNIT_VECTOR: 66, Decode.IDENTITY: 22}

_VALUES_AT_ONCE = 1 << 14  # written as text: it keeps every other thread from running


def datatype(task: Task) -> str:
    """Of the task's tensor, in the protocol's words."""
    return _DATATYPES[TRAITS[task].decode]


def channels(task: Task) -> tuple[int, ...]:
    """What follows [N, H, W] in the tensor's shape."""
    return (3,) if TRAITS[task].decode is Decode.UNIT_VECTOR else ()


def text_bytes(task: Task) -> int:
    """Bytes of JSON for one pixel, an upper estimate."""
    return _TEXT_BYTES[TRAITS[task].decode]


def to_bytes(source: PhotoMap) -> memoryview:
    """Row-major, little-endian, without padding; in memory that goes back to the system when nobody needs it."""
    room, at = own_memory(source.nbytes), 0
    whole = memoryview(room)
    for band in source.bands():
        data = np.ascontiguousarray(band, band.dtype.newbyteorder("<")).data.cast("B")
        whole[at : at + len(data)] = data
        at += len(data)
    return whole


def to_text(source: PhotoMap, most_values: int) -> list[bytes | memoryview]:
    """Pieces of the numbers in row-major order, separated by commas.

    `NotAcceptableError` if they are more than `most_values`.
    """
    values = math.prod(source.shape)
    if values > most_values:
        raise NotAcceptableError(
            f"task {source.task} has {values} values for this image, JSON carries {most_values} of each; "
            "ask for binary_data"
        )
    pieces: list[bytes | memoryview] = []
    for band in source.bands():
        flat = np.ravel(band)
        for begin in range(0, flat.size, _VALUES_AT_ONCE):
            source.check()
            text = json.dumps(flat[begin : begin + _VALUES_AT_ONCE].tolist(), separators=(",", ":"))
            pieces.append((text[1:-1] if not pieces else f",{text[1:-1]}").encode())
    return pieces


def own_memory(nbytes: int) -> mmap.mmap:
    """A file in memory of its own, which goes back to the system with it: the allocator would keep it for later."""
    return mmap.mmap(-1, nbytes, access=mmap.ACCESS_COPY)
