"""One decoder process, seen from the server. Lives on the event loop."""

import asyncio
import contextlib
import fcntl
import logging
import math
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import app
from app.decoding.messages import LINE_BYTES, Limits, Ready, Report, Task, square_bytes
from mtlora.images.tiles import UNTILED

log = logging.getLogger(__name__)

START_S = 60.0  # a busy machine starts a program slowly
LAST_WORDS_S = 1.0  # for a process whose channel is closed to be gone
LARGE_BODY_BYTES = 1 << 20  # from here on copying is no work for the event loop
TIDY_BYTES = 8 << 20
KEPT = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(4 << 20),
}
"""Of glibc's allocator: memory of ordinary photos is kept from one to the next, for to get it anew costs a page fault
each 4 KiB. What is larger goes back at once."""
_PHOTO_CHANNELS = 3
LENT_SQUARES = 3
LENT_BYTES = 4 << 20
"""Squares up to this size are lent where they were written, as far as there is room for them: to copy one that another
core has just written takes half a millisecond of the event loop."""


class LostError(Exception):
    """The process is gone, or makes no sense: it has to be replaced.

    status: of the process, as of `subprocess`; None where it was ended for taking too long
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Plan:
    """What every process of a server is started with."""

    limits: Limits
    body_bytes: int  # largest photo
    side: int  # largest square
    kernels: Path | None
    tiles: int = 1  # most squares that a photo may become

    @property
    def squares_at(self) -> int:
        """Where squares that are lent begin in shared memory, behind the room for the photo as it came."""
        return -(-self.body_bytes // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def pixels_at(self) -> int:
        """Where everything else begins: a photo's pixels, or a square that is copied."""
        return self.squares_at + LENT_SQUARES * LENT_BYTES

    @property
    def size(self) -> int:
        """Of shared memory. Address space only: what nobody wrote to takes nothing."""
        return self.pixels_at + max(self.tiles * square_bytes(self.side), _PHOTO_CHANNELS * self.limits.max_pixels)


class DecoderProcess:
    """Started once, asked for one photo at a time, killed when it overruns."""

    def __init__(self, plan: Plan, process: "subprocess.Popen[bytes]", channel: socket.socket, memory: int) -> None:
        self._plan = plan
        self._process = process
        self._channel = channel
        self._memory = memory
        self._shared = mmap.mmap(memory, plan.size)
        self._waiting = b""
        self._free = deque(range(plan.squares_at, plan.pixels_at, LENT_BYTES))  # for squares; whoever lets go appends
        self._own: int | None = None  # one of these that is not lent yet
        self._place = plan.pixels_at  # of the pixels that were asked for last
        self._written = 0  # bytes of shared memory, since it was last given back
        self.confined: list[str] = []

    @classmethod
    async def start(cls, plan: Plan) -> "DecoderProcess":
        """A process that is ready for photos; `LostError` if it does not get there."""
        # On Linux it ends with the thread that started it: threads of `to_thread` live as long as their event loop.
        decoder = await asyncio.to_thread(cls._spawn, plan)
        try:
            decoder.confined = Ready.read(await decoder._line(time.monotonic() + START_S)).confined
        except BaseException:
            await decoder.end()
            raise
        return decoder

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it has not ended, as far as the system knows."""
        return self._process.poll() is None

    async def ask(self, data: bytes, task: Task, until: float) -> Report:
        """What became of a photo; `LostError` if the process did not survive it, or not by `until` (monotonic)."""
        if len(data) > self._plan.squares_at:
            raise ValueError(f"a photo may have {self._plan.squares_at} bytes, got {len(data)}")
        if self._own is None and self._free:
            self._own = self._free.pop()
        is_one = task.wanted.tiling == UNTILED
        lends = self._own is not None and is_one and 0 < square_bytes(task.wanted.side) <= LENT_BYTES
        self._place = self._own if lends and self._own is not None else self._plan.pixels_at
        self._written = max(self._written, len(data))
        if len(data) < LARGE_BODY_BYTES:
            os.pwrite(self._memory, data, 0)
        else:
            await asyncio.to_thread(_write_all, self._memory, data)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._channel, replace(task, place=self._place).line())
            return Report.read(await self._line(until))
        except (OSError, ValueError) as error:
            raise await self._lost(str(error)) from error

    def square(self, side: int) -> NDArray[np.float32]:
        """The square that was asked for last: float32 [3, side, side].

        Shared memory that nothing else is written to until the array is let go; an array of its own where too many
        are held, or the square is large. Call it once for each square.
        """
        values = np.frombuffer(self._shared, np.float32, 3 * side * side, self._place)
        if self._place == self._plan.pixels_at:
            self._written = max(self._written, values.nbytes)
            return values.reshape(3, side, side).copy()
        self._own = None
        weakref.finalize(values, self._free.append, self._place).atexit = False
        return values.reshape(3, side, side)

    def squares(self, side: int, count: int) -> NDArray[np.float32]:
        """The tiles that were asked for last, in an array of its own: float32 [count, 3, side, side]."""
        if count > self._plan.tiles or side > self._plan.side:
            raise ValueError(f"{count} tiles of {side} px are more than {self._plan.tiles} of {self._plan.side} px")
        values = np.frombuffer(self._shared, np.float32, count * 3 * side * side, self._plan.pixels_at)
        self._written = max(self._written, values.nbytes)
        return values.reshape(count, 3, side, side).copy()

    def pixels(self, width: int, height: int) -> NDArray[np.uint8]:
        """The photo that was asked for last: uint8 [height, width, 3], shared memory until something else is asked."""
        if width * height > self._plan.limits.max_pixels:
            raise ValueError(f"{width} x {height} pixels are more than {self._plan.limits.max_pixels}")
        size = _PHOTO_CHANNELS * width * height
        self._written = max(self._written, size)
        return np.frombuffer(self._shared, np.uint8, size, self._plan.pixels_at).reshape(height, width, _PHOTO_CHANNELS)

    def tidy(self) -> None:
        """Give back the shared memory that was written to, where that is more than an ordinary photo's."""
        if self._written > TIDY_BYTES and hasattr(mmap, "MADV_REMOVE"):
            with contextlib.suppress(OSError):
                self._shared.madvise(mmap.MADV_REMOVE, 0, self._plan.squares_at)
                self._shared.madvise(mmap.MADV_REMOVE, self._plan.pixels_at, self._plan.size - self._plan.pixels_at)
            self._written = 0

    async def end(self) -> None:
        """Kill it and wait until it is gone; nothing more if that was done."""
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        memory, self._memory = self._memory, -1
        if memory < 0:
            return
        self._channel.close()
        os.close(memory)
        with contextlib.suppress(BufferError):  # somebody still looks at pixels, and closes it by letting go
            self._shared.close()

    async def _line(self, until: float) -> bytes:
        """The next message; `LostError` if there is none by then."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None if math.isinf(until) else max(0.0, until - time.monotonic())):
                while b"\n" not in self._waiting:
                    chunk = await loop.sock_recv(self._channel, LINE_BYTES)
                    if not chunk or len(self._waiting) > LINE_BYTES:
                        raise await self._lost("it ended, or said too much")
                    self._waiting += chunk
        except TimeoutError:
            raise LostError("no answer in time", None) from None
        except OSError as error:
            raise await self._lost(str(error)) from error
        line, self._waiting = self._waiting.split(b"\n", 1)
        return line

    async def _lost(self, reason: str) -> LostError:
        """Why it is gone. It ends by itself when its channel does; only what does not is killed."""
        try:
            status = await asyncio.to_thread(self._process.wait, LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = await asyncio.to_thread(self._process.wait)
        return LostError(reason, status)

    @classmethod
    def _spawn(cls, plan: Plan) -> "DecoderProcess":
        ours, theirs = socket.socketpair()
        memory = _shared_memory(plan.size)
        with theirs:
            arguments = {
                "channel": theirs.fileno(),
                "memory": memory,
                "size": plan.size,
                "max-pixels": plan.limits.max_pixels,
                "small-bytes": plan.limits.small_bytes,
                "seconds": plan.limits.seconds,
                "kernels": plan.kernels or "",
            }
            process = subprocess.Popen(
                # -S: no module that happens to be installed has a say; -P: nor one that happens to lie around
                [sys.executable, "-S", "-P", "-m", "app.decoding.worker", *_flags(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), memory),
                env=_environment(),
                cwd="/",
                start_new_session=True,  # a terminal's Ctrl-C is the server's business
            )
        ours.setblocking(False)
        return cls(plan, process, ours, memory)


def status_of(error: LostError) -> str:
    """How a process ended, in words."""
    if error.status is None:
        return "it took too long"
    return f"signal {-error.status}" if error.status < 0 else f"status {error.status}"


def _flags(arguments: Mapping[str, object]) -> list[str]:
    return [part for name, value in arguments.items() for part in (f"--{name}", str(value))]


def _environment() -> dict[str, str]:
    """Nothing of the server's own: no key, no setting, no allocator that keeps everything."""
    root = str(Path(app.__file__).resolve().parent.parent)
    paths = [root, *(path for path in sys.path if path and path != root)]
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
        **KEPT,
    }


def _shared_memory(size: int) -> int:
    """A descriptor of memory that two processes can map; zeros until it is written to."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
        os.truncate(memory, size)
        return memory
    memory = os.memfd_create("mtlora-photo", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(memory, size)
    # Who reads pages that the other has cut off is ended by the system: so nobody can.
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return memory


def _write_all(memory: int, data: bytes) -> None:
    view, done = memoryview(data), 0
    while done < len(data):
        done += os.pwrite(memory, view[done:], done)
