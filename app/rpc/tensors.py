"""Inference between the two forms of the protocol: messages of gRPC, and JSON with tensors behind it."""

import json
import struct
from typing import Any
from urllib.parse import quote

from app.core.errors import BadBodyError
from app.rpc.exchange import Answer, Ask
from app.rpc.messages import message, parameters_of

LENGTH_HEADER = "inference-header-content-length"
DEADLINE_HEADER = "x-deadline-ms"
MOST_ANSWER_BYTES = 2**31 - 2**20  # a message of protobuf has no more
_LENGTH = struct.Struct("<I")


def segment(name: str, safe: str = "") -> str:
    """A part of a path; a slash in a name divides nothing, so it stays escaped where the rest is read."""
    return quote((name or "-").replace("/", "%2F"), safe=safe)


def model_path(name: str, version: str, what: str = "") -> str:
    """The path of a model, or of something about it; what cannot be a name is for the application to refuse."""
    path = f"/v2/models/{segment(name, '@')}"
    path += f"/versions/{segment(version)}" if version else ""
    return f"{path}/{what}" if what else path


def infer_ask(content: bytes) -> Ask:
    """The request of a `ModelInferRequest`; `BadBodyError` if it holds together in no way."""
    asked = message("ModelInferRequest").FromString(content)
    tensors = _tensors(asked)
    document: dict[str, Any] = {
        "id": asked.id,
        "inputs": [
            {
                "name": one.name,
                "datatype": one.datatype,
                "shape": list(one.shape),
                "parameters": {**parameters_of(one.parameters), "binary_data_size": len(tensor)},
            }
            for one, tensor in zip(asked.inputs, tensors, strict=True)
        ],
        "outputs": [{"name": one.name, "parameters": parameters_of(one.parameters)} for one in asked.outputs],
        "parameters": {**parameters_of(asked.parameters), "binary_data_output": True},
    }
    head = json.dumps(document).encode()
    path = model_path(asked.model_name, asked.model_version, "infer")
    headers = [("content-type", "application/octet-stream"), (LENGTH_HEADER, str(len(head)))]
    return Ask("POST", path, b"".join((head, *tensors)), headers)


def infer_answer(answer: Answer) -> bytes:
    """A `ModelInferResponse`."""
    length = int(answer.headers.get(LENGTH_HEADER, len(answer.body)))
    head, rest = json.loads(answer.body[:length]), memoryview(answer.body)[length:]
    response = message("ModelInferResponse")(
        model_name=head["model_name"], model_version=head["model_version"], id=head.get("id", "")
    )
    at = 0
    for one in head["outputs"]:
        response.outputs.add(name=one["name"], datatype=one["datatype"], shape=one["shape"])
        size = one["parameters"]["binary_data_size"]
        response.raw_output_contents.append(bytes(rest[at : at + size]))
        at += size
    content: bytes = response.SerializeToString()
    return content


def _tensors(asked: Any) -> list[bytes]:
    """Each input's tensor as bytes."""
    raw = asked.raw_input_contents
    if raw and len(raw) != len(asked.inputs):
        raise BadBodyError(f"raw_input_contents has {len(raw)} tensors, there are {len(asked.inputs)} inputs")
    if raw:
        if twice := [one.name for one in asked.inputs if one.HasField("contents")]:
            raise BadBodyError(f"input {twice[0][:80]!r} stands in contents and in raw_input_contents; send it once")
        return list(raw)
    return [_packed(one) for one in asked.inputs]


def _packed(one: Any) -> bytes:
    """A tensor that stands in `contents`: of BYTES each element behind its length."""
    others = [field.name for field, _ in one.contents.ListFields() if field.name != "bytes_contents"]
    if others:
        raise BadBodyError(f"input {one.name[:80]!r}: encoded images are BYTES, in bytes_contents, got {others[0]}")
    return b"".join(_LENGTH.pack(len(element)) + element for element in one.contents.bytes_contents)
