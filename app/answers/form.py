"""Forms of answer by name, and what all of them are made of."""

import json
from enum import StrEnum
from typing import Any

Document = dict[str, Any]
Pieces = list[bytes | memoryview]


class AnswerFormat(StrEnum):
    """Forms of answer; the values are those of the `format` parameter, and of the metrics' label `format`."""

    JSON = "json"
    PNG = "png"
    IDS = "ids"
    ZIP = "zip"
    NPZ = "npz"
    OVERLAY = "overlay"
    HF = "hf"
    COCO = "coco"
    LABEL_STUDIO = "labelstudio"
    CVAT = "cvat"
    V2 = "v2"  # tensors of the Open Inference Protocol: the form of its own path, not one to ask for


def to_json(document: object) -> bytes:
    """Compact JSON; a value that JSON cannot say is a bug here, not something to send.

    Half of a surrogate pair, which a client may have written as a name, goes back as the escape that it came as.
    """
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode(
        errors="backslashreplace"
    )
