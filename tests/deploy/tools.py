"""Paths of what is deployed, and programs that a machine may lack."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from testing.paths import ROOT

Test = TypeVar("Test", bound=Callable[..., Any])
DEPLOY = ROOT / "deploy"

PROGRAMS = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
)  # the environment's own first


def needing(*programs: str) -> tuple[pytest.MarkDecorator, ...]:
    """Marks of a slow test, which is skipped, saying so, where a program is missing."""
    missing = [program for program in programs if shutil.which(program, path=PROGRAMS) is None]
    return pytest.mark.slow, pytest.mark.skipif(bool(missing), reason=f"not installed here: {', '.join(missing)}")


def needs(*programs: str) -> Callable[[Test], Test]:
    """A slow test; skipped, saying so, where a program is missing."""
    slow, skip = needing(*programs)
    return lambda test: slow(skip(test))


def run(*command: object, timeout_s: float = 60) -> str:
    """Output of a program that must succeed; what it said otherwise."""
    ended = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, "PATH": PROGRAMS},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
