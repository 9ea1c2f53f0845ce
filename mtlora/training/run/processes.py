"""Several training processes: on few cores one thread each is faster than one with all, and every GPU needs one.

They are started here, or by torchrun. Every step they add up their gradients, so that N processes compute what one
would on the whole batch.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from mtlora.training.run.memory import WAY_OUT
from mtlora.vocabulary.errors import MTLoRAError, TrainingError

_PATIENCE = timedelta(hours=2)  # the first process may decode a dataset or evaluate while the others wait


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among all; `rank` 0 writes the files."""

    rank: int = 0
    processes: int = 1
    local_rank: int = 0  # among those on this machine: the number of its GPU

    @property
    def leads(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process: of `cuda`, a GPU of its own."""
        return f"cuda:{self.local_rank}" if name == "cuda" and self.processes > 1 else name

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.processes > 1:
            dist.all_reduce(tensor)

    def any(self, flag: bool, device: str = "cpu") -> bool:
        """Whether any process says so."""
        if self.processes == 1:
            return flag
        count = torch.tensor([float(flag)], device=device)
        self.add_up(count)
        return bool(count.item() > 0)

    def add_gradients(self, params: list[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; a missing one counts as zero."""
        if self.processes == 1:
            return
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in params])
        self.add_up(flat)
        for part, p in zip(torch.split(flat, [p.numel() for p in params]), params, strict=True):
            p.grad = part.view_as(p)

    def mean_buffers(self, module: nn.Module) -> None:
        """Replace every float buffer (BatchNorm statistics) by its mean over the processes."""
        for buffer in module.buffers():
            if self.processes > 1 and buffer.is_floating_point():
                self.add_up(buffer)
                buffer /= self.processes


def from_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def leading() -> bool:
    """Whether this process, before there is a group, is the one to write files and messages."""
    return not from_torchrun() or int(os.environ["RANK"]) == 0


def run_crew(
    main: Callable[[ProcessGroup, Any], None], argument: Any, processes: int, folder: Path, device: str = "cpu"
) -> None:
    """Call `main(group, argument)` in `processes` processes and wait; one process runs right here.

    Under torchrun this process is one of those it started, and `processes` must be 1.
    """
    if processes < 1:
        raise TrainingError(f"needs at least one process, got {processes}")
    if from_torchrun():
        _join(main, argument, processes, device)
    elif processes == 1:
        main(ProcessGroup(), argument)
    else:
        meeting = (folder / "processes").resolve()
        meeting.unlink(missing_ok=True)
        _fault_file(meeting).unlink(missing_ok=True)
        try:
            spawn(_enter, args=(main, argument, processes, str(meeting), device), nprocs=processes, daemon=True)
        except ProcessRaisedException as error:
            raise _told(meeting) or error from error
        except ProcessExitedException as error:
            ended = error.signal_name or f"status {error.exit_code}"
            raise TrainingError(
                f"training process {error.error_index} was ended by {ended}; "
                f"SIGKILL is mostly the system's, for want of memory: {WAY_OUT}"
            ) from error
        finally:
            meeting.unlink(missing_ok=True)
            _fault_file(meeting).unlink(missing_ok=True)


def _fault_file(meeting: Path) -> Path:
    return meeting.with_name(f"{meeting.name}.fault")


def _told(meeting: Path) -> TrainingError | None:
    """What a process raised on purpose, in its words; None: it was something else."""
    try:
        return TrainingError(_fault_file(meeting).read_text(encoding="utf-8"))
    except OSError:
        return None


def _join(main: Callable[[ProcessGroup, Any], None], argument: Any, processes: int, device: str) -> None:
    if processes != 1:
        raise TrainingError(f"torchrun starts the processes: leave --processes at 1, got {processes}")
    group = ProcessGroup(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"]))
    with _group(group, "env://", device):
        main(group, argument)


def _enter(
    rank: int, main: Callable[[ProcessGroup, Any], None], argument: Any, processes: int, meeting: str, device: str
) -> None:
    torch.set_num_threads(1)
    group = ProcessGroup(rank, processes, rank)
    with _group(group, f"file://{meeting}", device):
        try:
            main(group, argument)
        except MTLoRAError as error:  # the parent gets a traceback as text only: the words go beside it
            with suppress(FileExistsError), _fault_file(Path(meeting)).open("x", encoding="utf-8") as file:
                file.write(str(error))
            raise


@contextmanager
def _group(group: ProcessGroup, meeting: str, device: str) -> Iterator[None]:
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(group.local_rank)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=meeting,
        rank=group.rank,
        world_size=group.processes,
        timeout=_PATIENCE,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()
