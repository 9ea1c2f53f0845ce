"""Maps as the tensors of the Open Inference Protocol: numbers as bytes, or as text of JSON."""

import json
import math

import numpy as np

from app.errors import NotAcceptableError
from mtlora.outputs import PhotoMap
from mtlora.tasks import TRAITS, Decode, Task

_DATATYPES = {Decode.ARGMAX: "UINT8", Decode.SIGMOID: "FP32", Decode.UNIT_VECTOR: "FP32", Decode.IDENTITY: "FP32"}
_TEXT_BYTES = {Decode.ARGMAX: 3, Decode.SIGMOID: 22, Decode.UNIT_VECTOR: 66, Decode.IDENTITY: 22}


def datatype(task: Task) -> str:
    """Of the task's tensor, in the protocol's words."""
    return _DATATYPES[TRAITS[task].decode]


def channels(task: Task) -> tuple[int, ...]:
    """What follows [N, H, W] in the tensor's shape."""
    return (3,) if TRAITS[task].decode is Decode.UNIT_VECTOR else ()


def text_bytes(task: Task) -> int:
    """Bytes of JSON for one pixel, an upper estimate."""
    return _TEXT_BYTES[TRAITS[task].decode]


def to_bytes(source: PhotoMap) -> bytes:
    """Row-major, little-endian, without padding."""
    return b"".join(band.astype(band.dtype.newbyteorder("<"), copy=False).tobytes() for band in source.bands())


def to_text(source: PhotoMap, most_values: int) -> bytes:
    """The numbers in row-major order, separated by commas; `NotAcceptableError` if they are more than `most_values`."""
    values = math.prod(source.shape)
    if values > most_values:
        raise NotAcceptableError(
            f"task {source.task} has {values} values for this image, JSON carries {most_values} of each; "
            "ask for binary_data"
        )
    return b",".join(
        json.dumps(np.ravel(band).tolist(), separators=(",", ":"))[1:-1].encode() for band in source.bands()
    )
