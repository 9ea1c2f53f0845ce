"""Takes from the library what asks a server, and bakes the commit in; all else is in pyproject.toml."""

import os
import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

# Of these packages only these modules; of the others all. A test holds it to what the client imports.
PARTS = {
    "mtlora": {"__init__", "version"},
    "mtlora.cli": {
        "__init__",
        "bench",
        "client",
        "command",
        "connection",
        "hub",
        "prelabels",
        "progress",
        "pushing",
        "remote",
        "say",
    },
    "mtlora.vocabulary": {"__init__", "errors", "shown", "stopping", "tasks"},
    "mtlora.weights": {"__init__", "atomic"},
}


def bake_commit(package: Path) -> None:
    """Write the commit beside `version.py`: of REVISION, of the checkout, or of the sdist that this is."""
    commit = os.environ.get("REVISION") or runpy.run_path("mtlora/version.py")["commit"]()
    if commit:
        (package / "commit.txt").write_text(f"{commit}\n")


class BuildClient(build_py):
    """Modules of `PARTS`, and the commit."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found = super().find_package_modules(package, package_dir)
        return [each for each in found if package not in PARTS or each[1] in PARTS[package]]

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            bake_commit(Path(self.build_lib, "mtlora"))


class SourceArchive(sdist):
    """An archive has no .git to ask, so it takes the commit along."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        bake_commit(Path(base_dir, "mtlora"))


setup(cmdclass={"build_py": BuildClient, "sdist": SourceArchive})
