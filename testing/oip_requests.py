"""Requests of the Open Inference Protocol as bytes."""

import json
import struct
from typing import Any

from fastapi.exceptions import RequestValidationError

from app.core.errors import BadBodyError, BadParameterError, EmptyBodyError


def packed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(e)) + e for e in elements)


def head(*, data: Any = None, size: Any = None, **changes: Any) -> bytes:
    """One input of one image, changed."""
    one: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1]}
    if data is not None:
        one["data"] = data
    if size is not None:
        one["parameters"] = {"binary_data_size": size}
    document = {"inputs": [one | changes.pop("input", {})], **changes}
    return json.dumps(document).encode()


def body(json_part: bytes, binary: bytes = b"", announced: str | None = None) -> tuple[bytes, str, int]:
    return json_part + binary, str(len(json_part)) if announced is None else announced, 4


GOOD = packed(b"abc")


LYING: dict[str, tuple[tuple[bytes, str | None, int], type[Exception], str]] = {
    "no body": ((b"", None, 4), EmptyBodyError, "no JSON"),
    "empty JSON": (body(b"", GOOD), EmptyBodyError, "no JSON"),
    "length is no number": (body(head(size=7), GOOD, "ten"), BadBodyError, "'ten'"),
    "length is negative": (body(head(size=7), GOOD, "-1"), BadBodyError, "number"),
    "length has a sign": (body(head(size=7), GOOD, "+10"), BadBodyError, "number"),
    "length is Arabic": (body(head(size=7), GOOD, "٣"), BadBodyError, "number"),
    "length is huge": (body(head(size=7), GOOD, "9" * 12), BadBodyError, "in all"),
    "length is endless": (body(head(size=7), GOOD, "9" * 9000), BadBodyError, "number"),
    "length beyond the body": (body(head(size=7), GOOD, "1000"), BadBodyError, "1000 bytes of JSON"),
    "length too short": (body(head(size=7), GOOD, "10"), RequestValidationError, ""),
    "no header": ((head(size=7), None, 4), BadBodyError, "says where the JSON ends"),
    "size too small": (body(head(size=6), GOOD), BadBodyError, "7 follow"),
    "size too large": (body(head(size=8), GOOD), BadBodyError, "7 follow"),
    "size is negative": (body(head(size=-1), GOOD), RequestValidationError, ""),
    "size is text": (body(head(size="7"), GOOD), RequestValidationError, ""),
    "size is true": (body(head(size=True), GOOD), RequestValidationError, ""),
    "size is a float": (body(head(size=7.0), GOOD), RequestValidationError, ""),
    "bytes nobody claims": (body(head(data=["QUJD"]), GOOD), BadBodyError, "no input claims"),
    "data and bytes": (body(head(data=["QUJD"], size=7), GOOD), BadParameterError, "both or neither"),
    "neither data nor bytes": (body(head()), BadParameterError, "both or neither"),
    "element cut": (body(head(size=5), GOOD[:5]), BadBodyError, "says 3 bytes, 1 are left"),
    "length of an element cut": (body(head(size=3), GOOD[:3]), BadBodyError, "ends after 0 of 1"),
    "element of 4 GB": (body(head(size=8), b"\xff" * 8), BadBodyError, "4294967295"),
    "more elements": (body(head(size=14), GOOD * 2), BadBodyError, "7 bytes follow"),
    "fewer elements": (body(head(size=7, input={"shape": [2]}), GOOD), BadBodyError, "1 of 2"),
    "too many": (body(head(size=35, input={"shape": [5]}), GOOD * 5), BadParameterError, "4 images"),
    "shape of millions": (body(head(size=7, input={"shape": [2**31]}), GOOD), BadParameterError, "4 images"),
    "shape [0]": (body(head(size=0, input={"shape": [0]})), EmptyBodyError, r"shape \[0\]"),
    "shape []": (body(head(size=7, input={"shape": []}), GOOD), BadParameterError, r"got \[\]"),
    "shape [1, 1]": (body(head(size=7, input={"shape": [1, 1]}), GOOD), BadParameterError, r"got \[1, 1\]"),
    "shape [-1]": (body(head(size=7, input={"shape": [-1]}), GOOD), RequestValidationError, ""),
    "shape of text": (body(head(size=7, input={"shape": ["1"]}), GOOD), RequestValidationError, ""),
    "shape of other data": (body(head(data=["QQ=="], input={"shape": [2]})), BadParameterError, "1 elements"),
    "UINT8": (body(head(size=7, input={"datatype": "UINT8"}), GOOD), BadParameterError, "'UINT8'"),
    "FP32": (body(head(data=["1"], input={"datatype": "FP32"})), BadParameterError, "'FP32'"),
    "another name": (body(head(size=7, input={"name": "INPUT0"}), GOOD), BadParameterError, "INPUT0"),
    "no inputs": (body(b'{"inputs": []}'), BadParameterError, "got none"),
    "inputs missing": (body(b"{}"), RequestValidationError, ""),
    "numbers as data": (body(head(data=[1])), RequestValidationError, ""),
    "nested data": (body(head(data=[["QQ=="]])), RequestValidationError, ""),
    "no base64": (body(head(data=["&&&&"])), BadBodyError, "not base64"),
    "no JSON": (body(b"{"), RequestValidationError, ""),
    "deep JSON": (body(b"[" * 9000), RequestValidationError, ""),
    "flood": (body(b'{"inputs": [' + b"{}," * 20_000 + b"{}]}"), BadBodyError, "10000 values"),
    "shared memory": (
        body(head(input={"parameters": {"shared_memory_region": "r"}})), BadParameterError, "not supported",
    ),
    "shared memory out": (
        body(head(data=["QQ=="], outputs=[{"name": "a", "parameters": {"shared_memory_region": "r"}}])),
        BadParameterError, "not supported",
    ),
    "an output twice": (body(head(data=["QQ=="], outputs=[{"name": "a"}] * 2)), BadParameterError, "a, a"),
    "a parameter nobody knows": (
        body(head(data=["QQ=="], parameters={"colour": 3})), RequestValidationError, "unknown key 'colour'; known",
    ),
    "a slip": (
        body(head(data=["QQ=="], parameters={"time_out": 3})), RequestValidationError, "did you mean 'timeout'",
    ),
    "a parameter of an output": (
        body(head(data=["QQ=="], outputs=[{"name": "a", "parameters": {"colour": 3}}])),
        RequestValidationError, "unknown key 'colour'",
    ),
    "classes of a map": (
        body(head(data=["QQ=="], outputs=[{"name": "a", "parameters": {"classification": 3}}])),
        BadParameterError, "outputs are maps",
    ),
    "a priority that is none": (
        body(head(data=["QQ=="], parameters={"priority": -1})), RequestValidationError, "priority",
    ),
    "a parameter of the input": (
        body(head(data=["QQ=="], input={"parameters": {"content_type": "str"}})),
        RequestValidationError, "unknown key 'content_type'",
    ),
    "a key nobody knows": (body(head(data=["QQ=="], output=[{"name": "a"}])), RequestValidationError, "mean 'outputs'"),
    "timeout of 0": (body(head(data=["QQ=="], parameters={"timeout": 0})), RequestValidationError, ""),
    "binary perhaps": (
        body(head(data=["QQ=="], parameters={"binary_data_output": "perhaps"})),
        RequestValidationError,
        "true or false",
    ),
}  # fmt: skip
