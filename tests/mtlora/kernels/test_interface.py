"""The table that Python and the kernels share, and libraries that were built from another one."""

import _ctypes
import ctypes
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtlora.kernels import header, interface, kernels, library, status
from mtlora.kernels.declarations import fields, signature
from mtlora.kernels.header import ABI
from mtlora.kernels.interface import STRUCTURES, Functions
from mtlora.vocabulary.errors import MTLoRAError
from scripts.kernel_interface import TARGET


@pytest.fixture(autouse=True)
def _only_this_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    monkeypatch.setattr(library, "best_instruction_set", lambda: "baseline")
    library._load.cache_clear()
    yield
    library._load.cache_clear()


def build(source: str) -> None:
    """A library of a few lines of C in the place of the baseline kernels."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no C compiler: {compiler[0]}")
    command = [*compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library.library_path("baseline"))]
    subprocess.run(command, input=source, text=True, check=True)


def sizes(*changed: str) -> str:
    """C that says the structures' sizes; those that are named are a pointer larger."""
    own = ", ".join(str(ctypes.sizeof(made) + 8 * (name in changed)) for name, made in STRUCTURES.items())
    return f"long mtlora_structure_bytes(int i) {{ static long s[] = {{{own}}}; return s[i]; }}"


def abi(number: int) -> str:
    return f"unsigned long mtlora_abi(void) {{ return {number:#x}ul; }}"


def test_the_header_is_what_the_table_makes() -> None:
    assert TARGET.read_text() == header.header(), "run: make generated"


def test_a_library_of_something_else_is_refused() -> None:
    shutil.copy(_ctypes.__file__, library.library_path("baseline"))
    assert kernels() is None
    assert "has no mtlora_abi: it was built from another source" in status().reason


def test_a_library_of_another_table_is_refused() -> None:
    build(abi(ABI ^ 1) + sizes())
    assert kernels() is None
    assert f"has interface {ABI ^ 1:#018x}, not {ABI:#018x}: it was built from another source" in status().reason


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_of_another_size_is_refused(name: str) -> None:
    build(abi(ABI) + sizes(name))
    own = ctypes.sizeof(STRUCTURES[name])
    assert kernels() is None
    assert f"has {name} in {own + 8} bytes, not {own}: it was built from another source" in status().reason


def test_a_library_that_lacks_a_kernel_is_refused() -> None:
    build(abi(ABI) + sizes())
    assert kernels() is None
    assert "has no mtlora_use_pool" in status().reason


def test_the_number_changes_with_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert header._abi() == ABI
    monkeypatch.setattr(interface, "MAX_DOTS", interface.MAX_DOTS + 1)
    assert header._abi() != ABI
    monkeypatch.undo()
    monkeypatch.setattr(
        interface.PairsLayout, "members", interface.PairsLayout.members.replace("rank, by", "ranks, by")
    )
    assert header._abi() != ABI
    monkeypatch.undo()
    monkeypatch.setattr(interface.PairsLayout, "members", interface.PairsLayout.members + "  // of all\n")
    assert header._abi() == ABI


def test_declarations_become_types() -> None:
    made = fields("const float* maps[3];  // some\n long rows, columns; MtloraLevels own;", STRUCTURES)
    assert [name for name, _ in made] == ["maps", "rows", "columns", "own"]
    assert [ctypes.sizeof(kind) for _, kind in made] == [
        3 * ctypes.sizeof(ctypes.c_void_p),
        ctypes.sizeof(ctypes.c_long),
        ctypes.sizeof(ctypes.c_long),
        24,
    ]
    got = signature("long(const void* const* tensors, float eps, int threads)", STRUCTURES)
    assert got == ((ctypes.c_void_p, ctypes.c_float, ctypes.c_int), ctypes.c_long)
    assert signature("uint64_t()", STRUCTURES) == ((), ctypes.c_uint64)


@pytest.mark.parametrize("wrong", ["const float *a, *b", "short n", "long", "long n[]"])
def test_declarations_that_would_be_misread_are_refused(wrong: str) -> None:
    with pytest.raises(MTLoRAError, match=r"that this table may hold|knows no type"):
        fields(f"{wrong};", STRUCTURES)


@pytest.mark.parametrize("name", Functions.__annotations__)
def test_results_are_the_same_to_both_sides(name: str) -> None:
    kind = Functions.__annotations__[name]
    result = kind.__origin__.__args__[-1]
    assert result in (None, int)
    assert (result is None) == (signature(kind.__metadata__[0], STRUCTURES).result is None)
