"""Builds the optional native kernels (see mtlora/kernels), bakes the commit in, puts the bundled sets into the wheel.

All else is in pyproject.toml.
"""

import os
import platform
import runpy
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

# -g0: Python's own flags would make the libraries ten times as large.
FLAGS = ["-O2", "-g0", "-std=gnu++17", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
# -Wmissing-declarations: also of a kernel that mtlora/kernels/interface.py does not have.
# -Wno-sign-conversion: Clang has that in -Wconversion, GCC has not.
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Wmissing-declarations"]
INSTRUCTION_SETS: dict[str, list[str]] = {"baseline": []}
BUNDLED = Path("adapters")
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


def bake_commit(package: Path) -> None:
    """Write the commit beside `version.py`: of REVISION, of the checkout, or of the sdist that this is."""
    commit = os.environ.get("REVISION") or runpy.run_path("mtlora/version.py")["commit"]()
    if commit:
        (package / "commit.txt").write_text(f"{commit}\n")


class BuildPackage(build_py):
    """Adds the commit and the bundled sets to what is built; an editable installation has both in its checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib, "mtlora")
        bake_commit(package)
        # The image is built without them: it has them in a layer of its own.
        if BUNDLED.is_dir():
            shutil.copytree(BUNDLED, package / "adapters", dirs_exist_ok=True)
        else:
            self.warn(f"there is no folder {BUNDLED}/: built without the bundled sets")


class SourceArchive(sdist):
    """An archive has no .git to ask, so it takes the commit along."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        bake_commit(Path(base_dir, "mtlora"))


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
    setup(ext_modules=found, cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage, "sdist": SourceArchive})
