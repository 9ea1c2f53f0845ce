"""Several training processes on one machine: on few cores, one thread each is faster than one process with all.

The processes share one mean gradient a step; they meet through a file in the run's folder, never over a network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from mtlora.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Crew:
    """This process among all; `rank` 0 writes the files."""

    rank: int = 0
    processes: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.processes > 1:
            dist.all_reduce(tensor)

    def mean_gradients(self, params: list[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes; a missing one counts as zero."""
        if self.processes == 1:
            return
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in params])
        self.add_up(flat)
        flat /= self.processes
        for part, p in zip(torch.split(flat, [p.numel() for p in params]), params, strict=True):
            p.grad = part.view_as(p)

    def mean_buffers(self, module: nn.Module) -> None:
        """Replace every float buffer (BatchNorm statistics) by its mean over the processes."""
        for buffer in module.buffers():
            if self.processes > 1 and buffer.is_floating_point():
                self.add_up(buffer)
                buffer /= self.processes


def run_crew(main: Callable[[Crew, Any], None], argument: Any, processes: int, folder: Path) -> None:
    """Call `main(crew, argument)` in `processes` processes and wait; one process runs right here."""
    if processes < 1:
        raise TrainingError(f"needs at least one process, got {processes}")
    if processes == 1:
        main(Crew(), argument)
        return
    meeting = (folder / "processes").resolve()
    meeting.unlink(missing_ok=True)
    try:
        spawn(_enter, args=(main, argument, processes, str(meeting)), nprocs=processes)  # type: ignore[no-untyped-call]
    finally:
        meeting.unlink(missing_ok=True)


def _enter(rank: int, main: Callable[[Crew, Any], None], argument: Any, processes: int, meeting: str) -> None:
    torch.set_num_threads(1)
    with _group(rank, processes, meeting):
        main(Crew(rank, processes), argument)


@contextmanager
def _group(rank: int, processes: int, meeting: str) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    try:
        yield
    finally:
        dist.destroy_process_group()
