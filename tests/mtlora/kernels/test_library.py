"""Which kernels are loaded and why, and that they run on torch's own threads."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtlora.kernels import kernels, library, status
from mtlora.vocabulary.errors import MTLoRAError


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    library._load.cache_clear()
    yield
    library._load.cache_clear()


def test_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.VARIABLE, "0")
    assert kernels() is None
    assert status() == library.Status("", "", "turned off by MTLORA_NATIVE=0")


def test_unknown_instruction_sets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.VARIABLE, "avx9")
    with pytest.raises(MTLoRAError, match="must be 0, 1, or one of baseline, avx2, avx512, avx512vnni, got 'avx9'"):
        kernels()


def test_what_the_cpu_lacks_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "best_instruction_set", lambda: "avx2")
    monkeypatch.setenv(library.VARIABLE, "avx512")
    assert kernels() is None
    assert status().reason == "MTLORA_NATIVE=avx512, but this CPU has only avx2"


def test_without_built_kernels_torch_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    monkeypatch.delenv(library.VARIABLE, raising=False)
    assert kernels() is None
    assert "was not built" in status().reason


def test_a_library_that_does_not_load_leaves_the_next_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(library.VARIABLE, raising=False)
    built = library.library_path("baseline")
    if not built.exists():
        pytest.skip(f"{built.name} was not built")
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    monkeypatch.setattr(library, "best_instruction_set", lambda: "avx512")
    library.library_path("avx512").write_bytes(b"not a library")
    library.library_path("baseline").symlink_to(built)
    assert kernels() is not None
    assert status().instruction_set == "baseline"
    assert "kernels_avx512" in status().reason, "a library that is passed over is told of"


ONE_POOL = """
import threading
import torch
from mtlora.ops import ops
from mtlora.kernels import status

torch.set_num_threads(3)
x, bias = torch.randn(6000, 96), torch.randn(6000, 96)
count = lambda: len(__import__("os").listdir("/proc/self/task"))
report = []

def run():
    before = count()
    torch.add(x.repeat(20, 1), 1)  # torch's own pool starts here
    between = count()
    y = ops.gelu_(x.clone(), bias[0])
    report.append((before, between, count(), torch.get_num_threads()))
    torch.set_num_threads(1)
    assert torch.equal(y, ops.gelu_(x.clone(), bias[0]))
    torch.set_num_threads(3)

run()
thread = threading.Thread(target=run)
thread.start()
thread.join()
print(status().threads, report)
for before, between, after, threads in report:
    assert threads == 3, "the calling thread's setting"
    assert between >= before + 2, "torch started threads"
    assert after == between, "the kernels started none"
"""


def test_kernels_run_on_the_threads_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the main thread and from another, which has a pool of its own: torch's, in both."""
    monkeypatch.delenv(library.VARIABLE, raising=False)
    if not status().threads:
        pytest.skip(f"no shared threads: {status().reason}")
    run = subprocess.run([sys.executable, "-c", ONE_POOL], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
