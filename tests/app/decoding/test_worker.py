"""Memory that a worker was not granted is not to be had: refused by the system, or the end of the process."""

import subprocess
import sys

import pytest

from app.decoding.worker import MEMORY_EXIT

LINUX = sys.platform == "linux"
BEYOND = """
import time
from app.decoding.worker import Memory
memory = Memory(by_limit={by_limit})
memory.grant(64 << 20)
kept = bytearray(8 << 20)
memory.grant(64 << 20)
try:
    more = bytearray(256 << 20)
    for at in range(0, len(more), 4096):
        more[at] = 1
    time.sleep(30)
except MemoryError:
    memory.grant(512 << 20)
    more = bytearray(256 << 20)
    raise SystemExit(42)
"""


@pytest.mark.skipif(not LINUX, reason="address space is limited on Linux; elsewhere a thread looks")
def test_address_space_ends_where_it_was_granted() -> None:
    program = BEYOND.format(by_limit=True)
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 42


def test_without_limits_a_thread_looks() -> None:
    program = BEYOND.format(by_limit=False)
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == MEMORY_EXIT


def test_a_worker_imports_no_torch() -> None:
    program = "import sys, app.decoding.worker; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0
