"""The decoder processes of a server: few, started beforehand, replaced when one is lost. Lives on the event loop."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.core.errors import DeadlineError, StartupError
from app.decoding.messages import Report, Task, Verdict
from app.decoding.process import DecoderProcess, LostError, Plan, status_of
from app.decoding.worker import MEMORY_EXIT

log = logging.getLogger(__name__)
T = TypeVar("T")

ATTEMPTS = 2
"""A process may be lost to something else than its photo; what loses two of them is to blame itself."""
GROWN_BYTES = 64 << 20  # a process that holds on to so much is replaced
PAUSE_S = 1.0  # after a start that failed
LOOK_S = 1.0  # between looks at idle processes
_TOO_COSTLY = {-signal.SIGPROF, -signal.SIGXCPU, MEMORY_EXIT}


class DecoderPool:
    """Processes, each for one photo at a time."""

    def __init__(self, plan: Plan, count: int, on_loss: Callable[[str], None]) -> None:
        """on_loss: told why a process was replaced: `costly`, `late`, `died` or `grown`"""
        self._plan = plan
        self._count = count
        self._on_loss = on_loss
        self._idle: asyncio.LifoQueue[DecoderProcess] = asyncio.LifoQueue()  # the last one's caches are warm
        self._living: set[DecoderProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """Of the processes there are now."""
        return [process.pid for process in self._living]

    async def start(self) -> None:
        """All of them at once; `StartupError` if one cannot be started."""
        try:
            await asyncio.gather(*(self._add() for _ in range(self._count)))
        except (LostError, OSError, ValueError) as error:
            how = status_of(error) if isinstance(error, LostError) else str(error)
            raise StartupError(
                f"cannot start the processes that decode photos ({how}); --decoding threads does without them"
            ) from error
        watching = asyncio.create_task(self._watch(), name="watch decoders")
        self._tasks.add(watching)
        confined = sorted({word for process in self._living for word in process.confined})
        log.info("decoders started", extra={"count": self._count, "confined": confined})

    async def close(self) -> None:
        """End all of them."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._remove(process) for process in list(self._living)))

    async def decode(
        self, data: bytes, task: Task, deadline: float, use: Callable[[DecoderProcess, Report], Awaitable[T]]
    ) -> T:
        """What `use` makes of the report, while the process that wrote it still holds the pixels.

        `DeadlineError` if there is no report in time; the process is then ended, whatever it was at.
        """
        attempt = 0
        while True:
            attempt += 1
            process = await self._next(deadline)
            fit = False
            try:
                report = await process.ask(data, task, deadline)
                fit = self._fits(report)
                return await use(process, report)
            except LostError as lost:
                blamed = self._blame(lost, attempt)
                if blamed is not None:
                    return await use(process, blamed)
            finally:
                if fit:
                    process.tidy()
                    self._idle.put_nowait(process)
                else:
                    self._replace(process)

    async def _next(self, deadline: float) -> DecoderProcess:
        """One that lives: what ended an idle one was no photo."""
        try:
            async with asyncio.timeout_at(_on_loop(deadline)):
                while not self._lives(process := await self._idle.get()):
                    continue
                return process
        except TimeoutError:
            raise DeadlineError("the deadline passed while the image waited for a decoder") from None

    def _lives(self, process: DecoderProcess) -> bool:
        """Whether it has not ended meanwhile; else it is replaced."""
        if process.is_alive():
            return True
        self._on_loss("died")
        log.warning("an idle decoder was lost", extra={"pid": process.pid})
        self._replace(process)
        return False

    async def _watch(self) -> None:
        """Notice the end of processes that nobody asks."""
        while True:
            await asyncio.sleep(LOOK_S)
            idle = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
            for process in reversed(idle):
                if self._lives(process):
                    self._idle.put_nowait(process)

    def _fits(self, report: Report) -> bool:
        """Whether it can go on with another photo."""
        if report.grown > GROWN_BYTES:
            self._on_loss("grown")
            return False
        return True

    def _blame(self, lost: LostError, attempt: int) -> Report | None:
        """What to say of a photo that lost a process; None: try it once more."""
        if lost.status is None:
            self._on_loss("late")
            raise DeadlineError("the deadline passed while the image was decoded") from lost
        costly = lost.status in _TOO_COSTLY
        self._on_loss("costly" if costly else "died")
        log.warning("a decoder was lost", extra={"reason": status_of(lost), "attempt": attempt})
        if costly:
            return Report(Verdict.TOO_COSTLY, "the image takes more time or memory than an image of its size")
        if attempt == ATTEMPTS:
            return Report(Verdict.TOO_COSTLY, f"the image ended {ATTEMPTS} decoders ({status_of(lost)})")
        return None

    def _replace(self, process: DecoderProcess) -> None:
        if not self._closed:
            task = asyncio.create_task(self._put_another_for(process), name="replace a decoder")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _put_another_for(self, process: DecoderProcess) -> None:
        await self._remove(process)
        while True:
            try:
                await self._add()
            except (LostError, OSError, ValueError) as error:
                log.error("cannot start a decoder", extra={"reason": str(error)})
                await asyncio.sleep(PAUSE_S)
            else:
                return

    async def _add(self) -> None:
        process = await DecoderProcess.start(self._plan)
        self._living.add(process)
        self._idle.put_nowait(process)

    async def _remove(self, process: DecoderProcess) -> None:
        await process.end()
        self._living.discard(process)


def _on_loop(deadline: float) -> float | None:
    """A time of time.monotonic on the clock of the event loop."""
    left = deadline - time.monotonic()
    return None if left == float("inf") else asyncio.get_running_loop().time() + left
