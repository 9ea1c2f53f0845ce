"""The header that kernels are compiled with, made from the table in `interface`; the number that tells tables apart."""

import hashlib
import re
from collections.abc import Iterator

from mtlora.kernels import interface
from mtlora.kernels.declarations import prototype, without_comments, wrapped

_HEAD = """\
// What Python and the kernels both know. Made from mtlora/kernels/interface.py by `make generated`: change it there.
#pragma once

#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))
"""


def header() -> str:
    """The text of src/interface.hpp."""
    sizes = ", ".join(f"sizeof({name})" for name in interface.STRUCTURES)
    return "\n".join(
        [
            _HEAD,
            *_constants(),
            *_enums(),
            "// Of this table: a library is called only where it has the same.",
            f"inline constexpr uint64_t kAbi = {ABI:#018x};",
            "",
            'extern "C" {',
            *_structures(),
            "}",
            "",
            wrapped(f"inline constexpr long kStructureBytes[] = {{{sizes}}};"),
            "",
            *map(wrapped, _functions()),
            "",
        ]
    )


def _constants() -> Iterator[str]:
    for name, kind in interface.__annotations__.items():
        if hasattr(kind, "__metadata__"):
            c_type, about = kind.__metadata__
            value = getattr(interface, name)
            shown = f"{value}f" if c_type == "float" else str(value)
            yield f"inline constexpr {c_type} k{_camel(name)} = {shown};  // {about}"
    yield ""


def _enums() -> Iterator[str]:
    for members, c_type in interface.ENUMS.items():
        values = ", ".join(f"k{_camel(member.name)} = {member.value}" for member in members)
        yield f"enum {members.__name__} : {c_type} {{{values}}};"
    yield ""


def _structures() -> Iterator[str]:
    for name, made in interface.STRUCTURES.items():
        members = (f"    {line.strip()}" for line in made.members.strip().splitlines())
        yield "\n".join(["", f"// {made.__doc__}", f"struct {name} {{", *members, "};"])


def _functions() -> Iterator[str]:
    for name, declared in interface.Functions.__annotations__.items():
        yield prototype(name, declared.__metadata__[0])


def _camel(name: str) -> str:
    """MAX_DOTS as MaxDots."""
    return "".join(part.capitalize() for part in name.split("_"))


def _abi() -> int:
    """A number that changes with the table, and not with what it says beside declarations."""
    lines = [*_constants(), *_enums(), *_structures(), *_functions()]
    plain = "\n".join(without_comments(re.sub(r"//.*", "", line)) for line in lines)
    return int.from_bytes(hashlib.sha256(plain.encode()).digest()[:8])


ABI = _abi()
