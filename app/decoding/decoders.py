"""The decoding stage: photos to the model's input, in processes or in threads. Lives on the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from app.core import errors as e
from app.core.decoded_photo import Decoded
from app.decoding.messages import Limits, Report, Task, Verdict, Wanted
from app.decoding.pool import DecoderPool
from app.decoding.process import DecoderProcess
from app.decoding.work import decode
from app.scheduling.fair_executor import FairExecutor
from app.scheduling.fair_queue import Flow
from mtlora.images.resampling import Levels
from mtlora.images.tiles import UNTILED, WHOLE, Grid, Tiling
from mtlora.kernels import kernels
from mtlora.vocabulary.spec import AdapterSpec

T = TypeVar("T")
Pixels = NDArray[np.uint8]

BYTES_PER_US = 25  # of a JPEG: a first guess, for a flow pays what the work takes
SMALL_BYTES = 96 << 20
"""Memory that every photo may take, beside twice its bytes: enough for some 12 megapixels."""

_ERRORS: dict[Verdict, type[e.ServiceError]] = {
    Verdict.EMPTY: e.EmptyBodyError,
    Verdict.NO_IMAGE: e.UnsupportedMediaError,
    Verdict.TOO_LARGE: e.TooManyPixelsError,
    Verdict.TOO_COSTLY: e.ImageTooCostlyError,
    Verdict.BROKEN: e.BadImageError,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose photo it is, and until when it is wanted."""

    flow: Flow
    deadline: float  # on the clock of time.monotonic


class Decoders(Protocol):
    """Where photos are decoded. Errors: what is wrong with the photo, in the service's words; `DeadlineError`."""

    async def start(self) -> None:
        """Before the first photo."""

    async def close(self) -> None:
        """After the last."""

    async def square(self, data: bytes, spec: AdapterSpec, turn: Turn, tiling: Tiling = UNTILED) -> Decoded:
        """A photo as a set's model takes it: as one square, or as one for each tile."""
        ...

    async def pixels(self, data: bytes, turn: Turn, use: Callable[[Pixels], Awaitable[T]]) -> T:
        """What `use` makes of a photo's pixels, uint8 [H, W, 3], upright, its own to write to until it is done."""
        ...


class FairSlots(FairExecutor):
    """Slots for work that waits for processes, shared as those of threads are."""

    def __init__(self, slots: int, *, memory_bytes: int) -> None:
        super().__init__(None, slots, memory_bytes=memory_bytes)

    async def wait_for(
        self, flow: Flow, work: Callable[[], Awaitable[T]], *, cost_us: int, deadline: float, nbytes: int
    ) -> T:
        """As `run`, of what is awaited; what needs memory was at it before, so it goes first within its flow."""
        begun = cast(Callable[[], T], work)  # `_start` awaits what it gives
        ahead = bool(nbytes)
        return await self.run(flow, begun, cost_us=cost_us, deadline=deadline, nbytes=nbytes, ahead=ahead)

    def _start(self, work: Callable[[], Any]) -> "asyncio.Future[tuple[Any, Exception | None, float]]":
        return asyncio.ensure_future(_timed(work))


class IsolatedDecoders:
    """In processes that may be lost. Those that need much memory run only as far as there is enough for all of them."""

    def __init__(self, pool: DecoderPool, slots: FairSlots, *, most_bytes: int) -> None:
        """most_bytes: of memory that one photo may take"""
        self._pool = pool
        self._slots = slots
        self._most_bytes = most_bytes

    @property
    def pids(self) -> list[int]:
        """Of the processes there are now."""
        return self._pool.pids

    @property
    def waiting(self) -> int:
        """Photos that wait for a process."""
        return self._slots.waiting

    async def start(self) -> None:
        """Start the processes."""
        await self._pool.start()

    async def close(self) -> None:
        """End the processes."""
        await self._pool.close()

    async def square(self, data: bytes, spec: AdapterSpec, turn: Turn, tiling: Tiling = UNTILED) -> Decoded:
        """See `Decoders`."""
        side = spec.image_size

        async def use(process: DecoderProcess, report: Report) -> Decoded:
            grid = tiling.of(report.width, report.height, side)
            values = process.square(side) if tiling == UNTILED else process.squares(side, grid.count)
            return _decoded(values if grid.count > 1 else values.reshape(3, side, side), report, grid)

        return await self._ask(data, wanted_by(spec, tiling), turn, use)

    async def pixels(self, data: bytes, turn: Turn, use: Callable[[Pixels], Awaitable[T]]) -> T:
        """See `Decoders`; the process waits until `use` is done."""

        async def look(process: DecoderProcess, report: Report) -> T:
            return await use(process.pixels(report.width, report.height))

        return await self._ask(data, Wanted(0), turn, look)

    async def _ask(
        self, data: bytes, wanted: Wanted, turn: Turn, use: Callable[[DecoderProcess, Report], Awaitable[T]]
    ) -> T:
        task = Task(len(data), wanted, SMALL_BYTES + 2 * len(data))
        found = await self._attempt(data, task, turn, use)
        if isinstance(found, _Large):
            self._check(found.need)
            found = await self._attempt(data, replace(task, memory_bytes=found.need), turn, use, nbytes=found.need)
        if isinstance(found, _Large):
            raise e.ImageTooCostlyError("the image takes more memory than it said")
        return found

    def _check(self, need: int) -> None:
        if need > self._most_bytes:
            raise e.ImageTooCostlyError(
                f"the image may take {need >> 20} MiB of memory to decode, the limit is {self._most_bytes >> 20}: "
                "send it smaller, or as a JPEG that is not progressive, or a PNG"
            )

    async def _attempt(
        self,
        data: bytes,
        task: Task,
        turn: Turn,
        use: Callable[[DecoderProcess, Report], Awaitable[T]],
        nbytes: int = 0,
    ) -> "T | _Large":
        async def judged(process: DecoderProcess, report: Report) -> T | _Large:
            if report.verdict is Verdict.LARGE:
                return _Large(report.need)
            raise_unless_done(report)
            return await use(process, report)

        work = partial(self._pool.decode, data, task, turn.deadline, judged)
        cost_us = len(data) // BYTES_PER_US
        return await self._slots.wait_for(turn.flow, work, cost_us=cost_us, deadline=turn.deadline, nbytes=nbytes)


@dataclass(frozen=True, slots=True)
class _Large:
    need: int


class ThreadedDecoders:
    """In the threads that encode too. A photo that overruns cannot be stopped, and shares the server's memory."""

    def __init__(self, threads: FairExecutor, limits: Limits) -> None:
        self._threads = threads
        self._limits = limits

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """Nothing to end."""

    async def square(self, data: bytes, spec: AdapterSpec, turn: Turn, tiling: Tiling = UNTILED) -> Decoded:
        """See `Decoders`."""
        values, report = await self._decode(data, wanted_by(spec, tiling), turn)
        grid = tiling.of(report.width, report.height, spec.image_size)
        return _decoded(values[0] if grid == WHOLE else np.stack(values), report, grid)

    async def pixels(self, data: bytes, turn: Turn, use: Callable[[Pixels], Awaitable[T]]) -> T:
        """See `Decoders`."""
        bands, _ = await self._decode(data, Wanted(0), turn)
        return await use(np.concatenate(bands))

    async def _decode(self, data: bytes, wanted: Wanted, turn: Turn) -> tuple[list[NDArray[Any]], Report]:
        values: list[NDArray[Any]] = []

        def place(_: int, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
            values.append(np.empty(shape, kind))
            return values[-1]

        def work() -> Report:
            return decode(data, wanted, self._limits, lambda *_: True, place, kernels())

        cost_us = len(data) // BYTES_PER_US
        report = await self._threads.run(turn.flow, work, cost_us=cost_us, deadline=turn.deadline)
        raise_unless_done(report)
        return values, report


def wanted_by(spec: AdapterSpec, tiling: Tiling = UNTILED) -> Wanted:
    """What a set's model takes."""
    levels = Levels.normalising(spec.mean, spec.std)
    rows, columns = (tiling.grid.rows, tiling.grid.columns) if tiling.grid else (0, 0)
    return Wanted(spec.image_size, spec.antialias, levels.scale, levels.shift, rows, columns, tiling.most)


def _decoded(values: NDArray[np.float32], report: Report, grid: Grid) -> Decoded:
    return Decoded(torch.from_numpy(values), report.width, report.height, report.orientation, grid=grid)


def raise_unless_done(report: Report) -> None:
    """What is wrong with a photo, in the service's words."""
    if report.verdict is not Verdict.DONE:
        raise _ERRORS[report.verdict](report.detail)


async def _timed(work: Callable[[], Awaitable[Any]]) -> tuple[Any, Exception | None, float]:
    start = time.perf_counter()
    try:
        return await work(), None, time.perf_counter() - start
    except Exception as error:  # whoever waits gets it
        return None, error, time.perf_counter() - start
