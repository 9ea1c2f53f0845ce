"""Builds the optional native kernels (see mtlora/kernels) and bakes the commit in; all else is in pyproject.toml."""

import os
import platform
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# -g0: Python's own flags would make the libraries ten times as large.
FLAGS = ["-O2", "-g0", "-std=gnu++17", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
# -Wmissing-declarations: also of a kernel that mtlora/kernels/interface.py does not have.
# -Wno-sign-conversion: Clang has that in -Wconversion, GCC has not.
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Wmissing-declarations"]
INSTRUCTION_SETS: dict[str, list[str]] = {"baseline": []}
if platform.machine() in {"x86_64", "AMD64"}:
    INSTRUCTION_SETS |= {"avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4"]}
    INSTRUCTION_SETS |= {"avx512vnni": ["-march=x86-64-v4", "-mavx512vnni"]}


class BuildKernels(build_ext):
    """Object files of one source for several instruction sets, each in a folder of its own."""

    build_temp: str

    def build_extension(self, ext: Extension) -> None:
        together = self.build_temp
        self.build_temp = f"{together}/{ext.name}"
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = together


class BakeCommit(build_py):
    """Writes the commit beside mtlora/version.py in what is built: of REVISION, or of the checkout."""

    def run(self) -> None:
        super().run()
        commit = os.environ.get("REVISION") or runpy.run_path("mtlora/version.py")["commit"]()
        if commit and not self.editable_mode:  # an editable installation asks its checkout
            Path(self.build_lib, "mtlora", "commit.txt").write_text(f"{commit}\n")


def kernels(name: str, flags: list[str]) -> Extension:
    """Optional: without a compiler, or with one that does not know the flags, it is left out and torch runs instead."""
    return Extension(
        f"mtlora.kernels.kernels_{name}",
        ["mtlora/kernels/src/kernels.cpp"],
        depends=sorted(str(header) for header in Path("mtlora/kernels/src").glob("*.hpp")),
        extra_compile_args=FLAGS + WARNINGS + flags,
        language="c++",
        optional=True,
    )


if __name__ == "__main__":
    wanted = os.environ.get("KERNELS", "").split() or INSTRUCTION_SETS
    # Windows' own compiler does not know these vector types.
    found = [] if sys.platform == "win32" else [kernels(name, INSTRUCTION_SETS[name]) for name in wanted]
    setup(ext_modules=found, cmdclass={"build_ext": BuildKernels, "build_py": BakeCommit})
