import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtlora.training.run.machine import ALLOCATOR, WAITING, prepare_process, usable_cores


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", 4), ("150000 100000", 1), ("200000 100000", 2), ("900000 100000", 4), ("?", 4)]
)
def test_cores_within_the_containers_quota(
    text: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(4)), raising=False)
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert usable_cores(tmp_path / "cpu.max") == cores
    assert usable_cores(tmp_path / "none") == 4


def _variables_after(code: str, **given: str) -> dict[str, str]:
    names = [*WAITING, "OMP_NUM_THREADS", *ALLOCATOR]
    told = f"import json, os; print(json.dumps([os.environ.get(name) for name in {names}]))"
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    ended = subprocess.run([sys.executable, "-c", f"{code}; {told}"], env=environment, capture_output=True, check=True)
    return dict(zip(names, json.loads(ended.stdout), strict=True))


PREPARE = "from mtlora.training.run.machine import prepare_process; prepare_process()"


def test_variables_are_set_before_torch_is_loaded() -> None:
    found = _variables_after(PREPARE)
    assert found["OMP_WAIT_POLICY"] == "PASSIVE" and found["OMP_NUM_THREADS"] == str(usable_cores())
    if sys.platform == "linux":
        assert {name: found[name] for name in ALLOCATOR} == ALLOCATOR


def test_what_is_set_already_stays() -> None:
    found = _variables_after(PREPARE, OMP_WAIT_POLICY="ACTIVE", OMP_NUM_THREADS="7")
    assert (found["OMP_WAIT_POLICY"], found["OMP_NUM_THREADS"]) == ("ACTIVE", "7")


def test_the_command_comes_before_torch() -> None:
    """Else nothing would be set: the modules of the command load it only within."""
    ended = subprocess.run(
        [sys.executable, "-c", "import sys, mtlora.cli.main; sys.exit('torch' in sys.modules)"], check=False
    )
    assert ended.returncode == 0


def test_nothing_is_set_once_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    prepare_process()  # the tests have loaded it
    assert "OMP_WAIT_POLICY" not in os.environ
