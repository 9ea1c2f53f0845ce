"""The parser of Open Inference requests: JSON, and images as bytes after it where it says so."""

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.api.open_inference.schemas import IMAGE_INPUT, LENGTH_HEADER, InferIn, InputIn, OutputIn
from app.core.errors import BadBodyError, BadParameterError, EmptyBodyError
from app.http.base64_text import decode_base64
from app.http.json_body import check_values, without_doubles
from app.http.parameters import JSON, told
from app.prediction.read_images import check_count

FAULTS_TOLD = 20
_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor
_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """A request as parsed; which outputs there are, is for the adapter set to say."""

    images: tuple[bytes, ...]
    id: str
    outputs: tuple[OutputIn, ...]  # empty: all
    binary: bool  # for outputs that do not say
    timeout_us: int | None
    model: str | None = None  # what the body says beside the path
    version: str | None = None
    compute: str | None = None
    tiles: str | None = None


def parse_request(body: bytes, announced: str | None, max_images: int) -> TensorRequest:
    """The request of a body.

    announced: the header that says how many bytes of the body are JSON; None: all
    """
    head, binary = split_body(body, announced)
    if not head:
        raise EmptyBodyError('the body has no JSON; send {"inputs": [{"name": "image", "datatype": "BYTES", …}]}')
    check_values(head)
    try:
        document = InferIn.model_validate_json(head)
        json.loads(head, object_pairs_hook=without_doubles)
    except ValidationError as error:
        raise RequestValidationError(told(error.errors(include_url=False)[:FAULTS_TOLD], JSON)) from error
    images = _images(_only_input(document.inputs), binary, announced is not None, max_images)
    parameters = document.parameters
    outputs = _checked(document.outputs)
    return TensorRequest(
        images,
        document.id,
        outputs,
        parameters.binary_data_output,
        parameters.timeout,
        document.model_name,
        document.model_version,
        None if parameters.compute is None else str(parameters.compute),
        parameters.tiles,
    )


def split_body(body: bytes, announced: str | None) -> tuple[bytes, memoryview]:
    """The JSON of a body, and what is behind it."""
    if announced is None:
        return body, memoryview(b"")
    if not _NUMBER.fullmatch(announced):
        raise BadBodyError(f"{LENGTH_HEADER} must be a number of bytes, got {announced[:40]!r}")
    length = int(announced)
    if length > len(body):
        raise BadBodyError(f"{LENGTH_HEADER} says {length} bytes of JSON, the body has {len(body)} bytes in all")
    return body[:length], memoryview(body)[length:]


def unpack(data: memoryview, count: int) -> tuple[bytes, ...]:
    """The `count` elements of a BYTES tensor: for each its length, 4 bytes little-endian, and then itself."""
    elements: list[bytes] = []
    position = 0
    while len(elements) < count:
        start = position + _LENGTH.size
        if start > len(data):
            raise BadBodyError(f"the tensor ends after {len(elements)} of {count} elements")
        (length,) = _LENGTH.unpack_from(data, position)
        position = start + length
        if position > len(data):
            raise BadBodyError(f"element {len(elements)} says {length} bytes, {len(data) - start} are left")
        elements.append(bytes(data[start:position]))
    if position != len(data):
        raise BadBodyError(f"{len(data) - position} bytes follow the {count} elements of the tensor")
    return tuple(elements)


def _only_input(inputs: Sequence[InputIn]) -> InputIn:
    if [one.name for one in inputs] != [IMAGE_INPUT]:
        names = ", ".join(one.name for one in inputs)[:200] or "none"
        raise BadParameterError(f"there is one input, {IMAGE_INPUT!r}; got {names}")
    (one,) = inputs
    if one.parameters.shared_memory_region is not None:
        raise BadParameterError(f"input {IMAGE_INPUT!r}: shared memory is not supported, send the bytes")
    if one.datatype != "BYTES":
        raise BadParameterError(
            f"input {IMAGE_INPUT!r} has datatype BYTES, an encoded image each; got {one.datatype!r}"
        )
    if len(one.shape) != 1:
        raise BadParameterError(f"input {IMAGE_INPUT!r} has shape [number of images], got {one.shape}")
    return one


def _images(one: InputIn, binary: memoryview, has_binary: bool, max_images: int) -> tuple[bytes, ...]:
    (count,) = one.shape
    if not count:
        raise EmptyBodyError(f"input {IMAGE_INPUT!r} has shape [0]: no image was sent")
    check_count(count, max_images)
    size = one.parameters.binary_data_size
    if (size is None) == (one.data is None):
        raise BadParameterError(f"input {IMAGE_INPUT!r} has either data or binary_data_size, got both or neither")
    if one.data is None:
        if not has_binary:
            raise BadBodyError(f"binary_data_size needs the header {LENGTH_HEADER}, which says where the JSON ends")
        if size != len(binary):
            raise BadBodyError(f"binary_data_size says {size} bytes, {len(binary)} follow the JSON")
        return unpack(binary, count)
    if len(binary):
        raise BadBodyError(f"{len(binary)} bytes follow the JSON, and no input claims them")
    if len(one.data) != count:
        raise BadParameterError(f"input {IMAGE_INPUT!r} has shape [{count}] and {len(one.data)} elements")
    return tuple(decode_base64(text, f"data[{i}]") for i, text in enumerate(one.data))


def _checked(outputs: Sequence[OutputIn]) -> tuple[OutputIn, ...]:
    names = [output.name for output in outputs]
    if len(set(names)) != len(names):
        raise BadParameterError(f"each output is asked for once, got {', '.join(names)[:200]}")
    if any(output.parameters.classification is not None for output in outputs):
        raise BadParameterError(
            "outputs: classification picks the best of a list of scores; these outputs are maps, so leave it away"
        )
    if any(output.parameters.shared_memory_region is not None for output in outputs):
        raise BadParameterError("outputs: shared memory is not supported, they come with the answer")
    return tuple(outputs)
