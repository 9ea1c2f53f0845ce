"""Source archives and wheels as `python -m build` makes them, without a network, and environments to try them in."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from testing.paths import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LEFT_OUT = (
    ".git",
    ".venv",
    "runs",
    "build",
    "dist",
    "tests",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "*.so",
)
# A build takes a processor's minute for each instruction set; on a busy machine several.
BUILD_SECONDS = 1200.0


def copy_of(folder: Path, target: Path, *, symlinks: bool) -> Path:
    """The folder as a fresh checkout has it, so that a build writes nothing into ours."""
    return shutil.copytree(folder, target, symlinks=symlinks, ignore=shutil.ignore_patterns(*LEFT_OUT))


def build(kind: str, source: Path, out: Path, **environment: str) -> Path:
    """What setuptools makes of a folder, called as the standard says; kind: `sdist` or `wheel`."""
    call = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    out.mkdir(exist_ok=True)
    run([sys.executable, "-c", call, str(out)], cwd=source, env=environment, timeout=BUILD_SECONDS)
    (built,) = out.iterdir()
    return built


def unpacked(archive: Path, target: Path) -> Path:
    """The one folder in a source archive."""
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")
    (folder,) = target.iterdir()
    return folder


def lend_kernels(source: Path) -> None:
    """Put this checkout's compiled kernels where the build will find them done, all but one: that one it compiles."""
    platform = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    target = source / "build" / f"lib.{platform}" / "mtlora" / "kernels"
    target.mkdir(parents=True)
    for library in (ROOT / "mtlora" / "kernels").glob("*.so"):
        if not library.name.startswith("kernels_baseline."):
            shutil.copy(library, target)


def environment_with(wheel: Path, folder: Path) -> Path:
    """An environment with the wheel and nothing else, not even pip; its Python."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    offline = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", str(python), "install", *offline, str(wheel)])
    return python


def site_of(python: Path) -> Path:
    """Where an environment's packages are."""
    return Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())


def plain_environment() -> dict[str, str]:
    """The environment without what would lead a program to this checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MTLORA_", "PYTHON", "REVISION"))}


def run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 300) -> str:
    """What a program prints that must succeed; `env` is added to the plain environment."""
    environment = plain_environment() | (env or {})
    ended = subprocess.run(
        command, cwd=cwd, env=environment, timeout=timeout, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return ended.stdout
