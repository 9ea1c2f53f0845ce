"""Reading the C declarations of `interface`: what they are to ctypes, and the header that kernels are compiled with."""

import ctypes
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from mtlora.vocabulary.errors import MTLoRAError

_SCALARS: dict[str, type] = {
    "long": ctypes.c_long,
    "int": ctypes.c_int,
    "float": ctypes.c_float,
    "uint64_t": ctypes.c_uint64,
}
_DECLARATION = re.compile(r"(?P<type>(?:const )?\w+(?: ?\*(?: const)?)*) (?P<names>.+)")
_NAME = re.compile(r"(?P<name>\w+)(?:\[(?P<length>\d+)\])?")
_SIGNATURE = re.compile(r"(?P<result>\w+)\((?P<parameters>.*)\)")

Structures = dict[str, Any]
"""Classes of ctypes.Structure by their names in C."""


class Declared(NamedTuple):
    """A member or a parameter."""

    type: str
    name: str
    length: int  # of an array; 0: none


class Signature(NamedTuple):
    """What ctypes asks of a function."""

    arguments: tuple[Any, ...]
    result: Any


def declared(text: str) -> Iterator[Declared]:
    """The names that one declaration declares, as `long rows, columns` or `float scale[3]`."""
    found = _DECLARATION.fullmatch(text.strip())
    names = [_NAME.fullmatch(name.strip()) for name in found["names"].split(",")] if found else []
    if found is None or None in names or ("*" in found["type"] and len(names) > 1):
        raise MTLoRAError(f"not a declaration that this table may hold: {text!r}")
    for name in names:
        if name is not None:
            yield Declared(found["type"], name["name"], int(name["length"] or 0))


def fields(members: str, structures: Structures) -> list[tuple[str, Any]]:
    """`_fields_` of a structure with these members."""
    return [
        (one.name, _ctype(one.type, structures) * one.length if one.length else _ctype(one.type, structures))
        for text in without_comments(members).split(";")[:-1]
        for one in declared(text)
    ]


def signature(text: str, structures: Structures) -> Signature:
    """Of a function that is declared so: result(type name, …)."""
    found = _SIGNATURE.fullmatch(text)
    if found is None:
        raise MTLoRAError(f"not a function that this table may hold: {text!r}")
    parameters = found["parameters"].split(",") if found["parameters"] else []
    arguments = tuple(_ctype(one.type, structures) for text in parameters for one in declared(text))
    return Signature(arguments, None if found["result"] == "void" else _ctype(found["result"], structures))


def prototype(name: str, text: str) -> str:
    """The declaration in C of a function of the table."""
    result, _, parameters = text.partition("(")
    return f"EXPORT {result} mtlora_{name}({parameters};"


def wrapped(line: str) -> str:
    """A long line of C as several, cut behind commas."""
    whole = re.sub(r"(?<!,) ", "\0", line)
    lines = textwrap.wrap(whole, 120, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def without_comments(text: str) -> str:
    """C in one line."""
    return " ".join(re.sub(r"//[^\n]*", "", text).split())


def _ctype(name: str, structures: Structures) -> Any:
    if "*" in name:
        return ctypes.c_void_p
    if name in structures:
        return structures[name]
    if name not in _SCALARS:
        raise MTLoRAError(f"the table knows no type {name!r}")
    return _SCALARS[name]
