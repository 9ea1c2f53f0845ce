"""Default memory budgets of adapter sets, as shares of what the machine has."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

CPU_DEVICE_SHARE = 0.4  # of the memory this process may use: merged sets are large, and fast only while they are here
HOST_SHARE = 0.1  # of the same memory
GPU_DEVICE_SHARE = 0.6  # of what is free on the GPU beside the backbone; activations take the rest
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class Budgets:
    """Bytes of adapter sets, per tier in memory."""

    device_bytes: int
    host_bytes: int


def choose_budgets(device_bytes: int | None, host_bytes: int | None, device: torch.device) -> Budgets:
    """What was set, or a share of the machine's memory (of the container's, where it has less)."""
    memory = memory_bytes()
    if device_bytes is None:
        if device.type == "cuda":
            device_bytes = int(GPU_DEVICE_SHARE * torch.cuda.mem_get_info(device)[0])
        else:
            device_bytes = int(CPU_DEVICE_SHARE * memory)
    return Budgets(device_bytes, int(HOST_SHARE * memory) if host_bytes is None else host_bytes)


def memory_bytes() -> int:
    """Main memory that this process may use: the machine's, or its control group's limit where that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for path in _CGROUP_LIMITS if (limit := _limit(path)) > 0)])


def _limit(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such control group, or "max"
        return 0
