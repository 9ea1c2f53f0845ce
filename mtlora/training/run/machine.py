"""What a training process may use of its machine: cores, and how its threads wait and its memory is kept.

Nothing here imports torch: OpenMP reads its variables when torch is loaded, so they are set before.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that have nothing to do sleep: with the default they spin, and slow down whatever else runs."""

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""By default glibc gives large tensors back after every operation; the page faults cost 10 to 50 % of a step."""

_MALLOPT = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_TOP_PAD_": -2, "MALLOC_MMAP_MAX_": -4}
_MALLOPT_LARGEST = 2**31 - 1  # mallopt takes an int
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _CGROUP_QUOTA) -> int:
    """Cores that this process may use: by its affinity, and by its container's quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text(encoding="ascii").split()
        return max(1, min(cores, int(share) // int(period)))
    except (OSError, ValueError):  # no cgroup of version 2, or "max": no quota
        return cores


def prepare_process() -> None:
    """Set how many threads there are, how they wait, how memory is kept: here and in processes started from here.

    What is set already stays.

    Does nothing once torch is loaded: it would come too late.
    """
    if "torch" in sys.modules:
        return
    glibc = platform.libc_ver()[0] == "glibc"
    threads = {"OMP_NUM_THREADS": str(usable_cores())}  # torch itself knows nothing of a container's quota
    for name, value in (WAITING | threads | (ALLOCATOR if glibc else {})).items():
        if name in os.environ:
            continue
        os.environ[name] = value
        if name in _MALLOPT:  # the variable is for processes started from here: this one has read its own
            ctypes.CDLL(None).mallopt(_MALLOPT[name], min(int(value), _MALLOPT_LARGEST))
