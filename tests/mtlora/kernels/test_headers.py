"""The kernels' sources: every header stands alone, and nothing of them makes a compiler warn."""

import os
import re
import runpy
import shlex
import shutil
import subprocess

import pytest

from testing.paths import ROOT

SOURCES = ROOT / "mtlora" / "kernels" / "src"
SETUP = runpy.run_path(str(ROOT / "setup.py"))


def check(source: str, *flags: str) -> None:
    """Reads C++ as the installation does, except that a warning is an error; makes nothing."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no C++ compiler: {compiler[0]}")
    command = [*compiler, *SETUP["FLAGS"], *SETUP["WARNINGS"], *flags, "-Werror", "-fsyntax-only", "-I", str(SOURCES)]
    done = subprocess.run([*command, "-x", "c++", "-"], input=source, capture_output=True, text=True, check=False)
    if "bad value" in done.stderr or "unrecognized command-line option" in done.stderr:
        pytest.skip(f"{compiler[0]} does not know {flags}")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("header", sorted(path.name for path in SOURCES.glob("*.hpp")))
def test_every_header_compiles_alone(header: str) -> None:
    check(f'#include "{header}"\n')


@pytest.mark.slow
@pytest.mark.parametrize("instruction_set", SETUP["INSTRUCTION_SETS"])
def test_kernels_compile_without_a_warning(instruction_set: str) -> None:
    check('#include "kernels.cpp"\n', *SETUP["INSTRUCTION_SETS"][instruction_set])


def test_the_readme_draws_what_headers_include() -> None:
    drawn = re.findall(r"^([a-z0-9_]+)\.hpp +([a-z0-9_ ]+|-)$", (SOURCES / "README.md").read_text(), re.MULTILINE)
    found = {
        path.stem: set(re.findall(r'#include "(\w+)\.hpp"', path.read_text())) - {"interface"}
        for path in SOURCES.glob("*.hpp")
    }
    assert {name: set(included.split()) - {"-"} for name, included in drawn} == found
