"""Installation without a compiler: it succeeds, nothing native is there, and torch runs."""

import os
import subprocess
import sys
from pathlib import Path

from testing.paths import ROOT


def test_without_a_compiler_the_build_succeeds(tmp_path: Path) -> None:
    """`false` in the compiler's place; `test_without_built_kernels_torch_runs` says what follows."""
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path / "lib")]
    command += ["--build-temp", str(tmp_path / "temp"), "--force"]
    environment = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not [*tmp_path.rglob("*.so")]
