"""The main loop of a decoder process: photos in, pixels out, one at a time, within processor time and memory.

Started by `process`, as a program of its own and never as a copy of the server. Who overruns is ended by the kernel
(SIGPROF, or an address space that does not grow), and the server starts another.
"""

import argparse
import contextlib
import ctypes
import math
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.decoding.confinement import confine, end_with_parent
from app.decoding.messages import LINE_BYTES, Limits, Ready, Report, Task, Verdict
from app.decoding.work import decode, warm_up
from mtlora.kernels import Kernels

PAGE_BYTES = mmap.PAGESIZE
MEMORY_EXIT = 3  # the watcher's: more memory than granted
ORPHAN_EXIT = 4  # the watcher's: the server is gone
WATCH_S = 0.02
LARGE_PIXELS = 4 << 20  # what a decoder and its allocator keep of smaller photos is no loss
SECONDS_PER_PIXEL = 0.1e-6
"""Of a processor: several times what the slowest decoder takes on a slow machine."""


class Memory:
    """What this process has and may have.

    Linux refuses address space beyond a grant. Elsewhere (macOS) a thread looks, and ends the process.
    """

    def __init__(self, *, by_limit: bool = sys.platform == "linux") -> None:
        self._statm = self._open()
        self._base = self.resident()
        self._limits_hold = by_limit and self._statm >= 0
        self._most = 0  # resident bytes, for the watcher
        if not self._limits_hold:
            threading.Thread(target=self._watch, daemon=True).start()

    @property
    def descriptors(self) -> set[int]:
        """That it needs."""
        return {self._statm} if self._statm >= 0 else set()

    def resident(self) -> int:
        """Bytes of its own in memory now; where the system does not say, the most there ever were."""
        if self._statm < 0:
            return _peak_bytes()
        _, resident, shared, *_ = os.pread(self._statm, 200, 0).split()
        return (int(resident) - int(shared)) * PAGE_BYTES

    def grown(self) -> int:
        """Bytes beyond those at the start."""
        return max(0, self.resident() - self._base)

    def grant(self, nbytes: int) -> None:
        """So much more may be taken, from now on until the next grant."""
        if self._limits_hold:
            space = int(os.pread(self._statm, 200, 0).split()[0]) * PAGE_BYTES + nbytes
            resource.setrlimit(resource.RLIMIT_AS, (space, resource.getrlimit(resource.RLIMIT_AS)[1]))
        self._most = self.resident() + nbytes

    def _watch(self) -> None:
        """Where there is no limit of address space (macOS): looks instead of letting the kernel refuse.

        There no kernel ends a process with its parent either.
        """
        parent = os.getppid()
        while True:
            time.sleep(WATCH_S)
            if os.getppid() != parent:
                os._exit(ORPHAN_EXIT)
            if self._most and self.resident() > self._most:
                os._exit(MEMORY_EXIT)

    @staticmethod
    def _open() -> int:
        try:
            return os.open("/proc/self/statm", os.O_RDONLY)
        except OSError:
            return -1


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Worker:
    """Reads tasks, writes reports, until the server goes away."""

    def __init__(self, channel: socket.socket, shared: mmap.mmap, limits: Limits, native: Kernels | None):
        self._channel = channel
        self._shared = shared
        self._limits = limits
        self._native = native
        self._trim = _trimmer()
        self.memory = Memory()

    def run(self) -> None:
        """Until the channel is closed."""
        waiting = b""
        while chunk := self._channel.recv(LINE_BYTES):
            waiting += chunk
            while b"\n" in waiting:
                line, waiting = waiting.split(b"\n", 1)
                self._channel.sendall(self._answer(Task.read(line)).line())

    def _answer(self, task: Task) -> Report:
        self.memory.grant(task.memory_bytes)
        _allow_seconds(self._limits.seconds)
        data = self._shared[: task.size]
        try:
            report = self._decode(data, task)
        except MemoryError:
            report = Report(Verdict.TOO_COSTLY, "the image takes more memory than an image of its size")
        finally:
            _allow_seconds(0)
        del data
        if report.width * report.height > LARGE_PIXELS:
            self._trim()
        return replace(report, detail=report.detail[:500], grown=self.memory.grown())

    def _decode(self, data: bytes, task: Task) -> Report:
        def may_take(pixels: int, nbytes: int) -> bool:
            _allow_seconds(self._limits.seconds + pixels * SECONDS_PER_PIXEL)
            return nbytes <= task.memory_bytes

        def place(offset: int, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
            return np.frombuffer(self._shared, kind, math.prod(shape), task.place + offset).reshape(shape)

        return decode(data, task.wanted, self._limits, may_take, place, self._native)


def _allow_seconds(seconds: float) -> None:
    """So much more of a processor, then the kernel ends this process; 0: no bound."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _trimmer() -> Callable[[], object]:
    """What gives freed memory back to the system."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # no glibc
        return lambda: None
    return lambda: trim(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve one server over an inherited socket."""
    parser = argparse.ArgumentParser()
    for name in ("--channel", "--memory", "--size", "--max-pixels", "--small-bytes"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--kernels", default="")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: the server decides
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    end_with_parent()  # before there is a photo: while there is none, the end of the channel is enough
    warnings.simplefilter("ignore")
    native = Kernels(Path(given.kernels), share_threads=False) if given.kernels else None
    channel = socket.socket(fileno=given.channel)
    shared = mmap.mmap(given.memory, given.size)
    limits = Limits(given.max_pixels, given.seconds, given.small_bytes)
    warm_up(limits, native)
    worker = Worker(channel, shared, limits, native)
    confined = confine({given.channel, given.memory, *worker.memory.descriptors})
    channel.sendall(Ready(confined).line())
    with contextlib.suppress(ConnectionError):
        worker.run()


if __name__ == "__main__":
    main()
