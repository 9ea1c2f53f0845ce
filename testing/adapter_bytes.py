"""Adapter files taken apart and put together, honest and not."""

import json
from collections.abc import Callable
from typing import Any

Edit = Callable[[dict[str, Any]], None]


BIAS = "decoders.semseg.classify.bias"


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def entry(**change: Any) -> Edit:
    return lambda header: header[BIAS].update(change)


def rename(header: dict[str, Any]) -> None:
    header["decoders.semseg.classify.offset"] = header.pop(BIAS)


def shift(header: dict[str, Any]) -> None:
    begin, end = header[BIAS]["data_offsets"]
    header[BIAS]["data_offsets"] = [begin - 2, end - 2]


LIES: dict[str, tuple[Edit, str]] = {
    "negative shape": (entry(shape=[-21]), "whole numbers from 0"),
    "huge shape": (entry(shape=[2**62, 2**62]), "needs"),
    "too many dimensions": (entry(shape=[1] * 9), "up to 8"),
    "bool shape": (entry(shape=[True]), "whole numbers"),
    "float shape": (entry(shape=[21.0]), "whole numbers"),
    "integer dtype": (entry(dtype="I64"), "dtype must be one of"),
    "unknown dtype": (entry(dtype="F8_E4M3"), "dtype must be one of"),
    "dtype of another size": (entry(dtype="F32"), "needs 84 bytes"),
    "out of the file": (entry(data_offsets=[2**40, 2**40 + 42]), "hole"),
    "backwards": (entry(data_offsets=[42, 0]), "data_offsets give -42"),
    "overlap": (shift, "overlaps"),
    "extra key": (entry(comment="hello"), "exactly dtype, shape and data_offsets"),
    "renamed": (rename, "unexpected"),
    "missing metadata": (lambda header: header.pop("__metadata__"), "not an adapter set"),
    "large metadata": (lambda header: header["__metadata__"].update(x="y" * 2**20), "the limit is"),
    "metadata of numbers": (lambda header: header["__metadata__"].update(x=1), "whose values are texts"),
}
