"""The fair executor: flows take turns in the codec threads that decode photos and encode answers.

A plain pool serves first come, first served: one client's photos would hold up everybody's decoding. Within a flow what
is nearer to its answer goes first. Memory is bounded too: work that would exceed it waits until other work is done.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from app.core.errors import DeadlineError
from app.scheduling.fair_queue import FairQueue, Flow

BURST_US = 200_000
"""How far a flow that was used little may be ahead of the others, in time of one thread."""

T = TypeVar("T")


@dataclass(slots=True)
class Memory:
    """What jobs that belong together take at their peak: taken when the first begins, given back when none is left."""

    nbytes: int  # estimated
    jobs: int  # that are neither done nor given up
    taken: bool = False


@dataclass(slots=True, eq=False)
class Job:
    """Work for a thread."""

    flow: Flow
    work: Callable[[], Any]
    cost_us: int  # estimated; the flow pays what it takes
    deadline: float  # on the clock of time.monotonic; what has not begun by then is not begun
    future: asyncio.Future[Any]
    memory: Memory


class FairExecutor:
    """The threads of an executor, shared fairly. Lives on the event loop."""

    def __init__(self, executor: Executor | None, threads: int, *, memory_bytes: int, free_bytes: int = 0) -> None:
        """free_bytes: what takes no more than this never waits for memory, and does not count"""
        self._executor = executor
        self._idle = threads
        self._memory_bytes = memory_bytes
        self._free_bytes = free_bytes
        self._used_bytes = 0
        self._queue: FairQueue[Job] = FairQueue(burst=BURST_US)
        self._lacking_memory: deque[Job] = deque()
        self._turns: Counter[tuple[str, ...]] = Counter()  # of callers and flows with memory, while there is too little

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._queue) + len(self._lacking_memory)

    async def run(
        self, flow: Flow, work: Callable[[], T], *, cost_us: int, deadline: float, nbytes: int = 0, ahead: bool = False
    ) -> T:
        """The result of the work; `DeadlineError` if it could not begin in time. Cancelled: not begun."""
        works = [work]
        return (await self.run_all(flow, works, cost_us=cost_us, deadline=deadline, nbytes=nbytes, ahead=ahead))[0]

    async def run_all(
        self,
        flow: Flow,
        works: Sequence[Callable[[], T]],
        *,
        cost_us: int,
        deadline: float,
        nbytes: int = 0,
        ahead: bool = False,
    ) -> list[T]:
        """The results of works that belong together and may run side by side; begun in this order.

        The first error counts, and what has not begun by then is not begun; so too if the call is cancelled.

        cost_us: of each; nbytes: of all
        """
        loop, memory = asyncio.get_running_loop(), Memory(nbytes if nbytes > self._free_bytes else 0, len(works))
        jobs = [Job(flow, work, cost_us, deadline, loop.create_future(), memory) for work in works]
        for job in jobs:
            self._queue.push(flow, job, cost_us, ahead=ahead)
        self._begin_next()
        try:
            results: list[T] = await asyncio.gather(*(job.future for job in jobs))
        except BaseException:
            for job in jobs:
                self._forget(job)
            raise
        return results

    def _begin_next(self) -> None:
        while self._idle and (job := self._take()) is not None:
            if job.future.cancelled() or time.monotonic() >= job.deadline:
                self._release(job)
                late = DeadlineError("the deadline passed while the image waited for a codec thread")
                _deliver(job.future, None, late)
                continue
            self._idle -= 1
            if not job.memory.taken:
                self._grant(job)
            running = self._start(job.work)
            running.add_done_callback(partial(self._finish, job))

    def _start(self, work: Callable[[], Any]) -> "asyncio.Future[tuple[Any, Exception | None, float]]":
        """Begin the work: what comes of it, or its error, and how many seconds it took."""
        return asyncio.get_running_loop().run_in_executor(self._executor, _timed, work)

    def _take(self) -> Job | None:
        """The next job that fits into the memory. Those that do not are kept: callers and flows have one after the
        other, and whose turn it is, is waited for; but for those whose memory is taken already, which is given
        back only when they are done too.
        """
        lacking = self._lacking_memory
        job = next((job for job in lacking if job.memory.taken), None) or min(lacking, key=self._had, default=None)
        if job is not None and self._fits(job):
            lacking.remove(job)
            return job
        while len(self._queue):
            job = self._queue.pop()
            if job.memory.taken or not job.memory.nbytes or (not lacking and self._fits(job)):
                return job
            lacking.append(job)
        return None

    def _had(self, job: Job) -> tuple[int, int]:
        """How often its caller and its flow had memory since there was too little: who had it least goes first."""
        return self._turns[job.flow[:1]], self._turns[job.flow]

    def _grant(self, job: Job) -> None:
        job.memory.taken = True
        self._used_bytes += job.memory.nbytes
        if job.memory.nbytes:
            self._turns.update((job.flow[:1], job.flow))

    def _fits(self, job: Job) -> bool:
        """What needs more than there is runs alone."""
        memory = job.memory
        return memory.taken or not self._used_bytes or self._used_bytes + memory.nbytes <= self._memory_bytes

    def _forget(self, job: Job) -> None:
        if job in self._lacking_memory:
            self._lacking_memory.remove(job)
        elif not self._queue.discard(job.flow, job):
            return  # it runs, or is done
        self._release(job)
        self._begin_next()

    def _release(self, job: Job) -> None:
        """One job less that needs its memory."""
        job.memory.jobs -= 1
        if job.memory.taken and not job.memory.jobs:
            self._used_bytes -= job.memory.nbytes
            if not self._used_bytes and not self._lacking_memory:
                self._turns.clear()

    def _finish(self, job: Job, running: "asyncio.Future[tuple[Any, Exception | None, float]]") -> None:
        self._idle += 1
        self._release(job)
        if running.cancelled():  # the pool was closed before it began
            job.future.cancel()
        else:
            result, error, seconds = running.result()
            self._queue.charge(job.flow, round(seconds * 1e6) - job.cost_us)
            _deliver(job.future, result, error)
        self._begin_next()


def _timed(work: Callable[[], T]) -> tuple[T | None, Exception | None, float]:
    start = time.perf_counter()
    try:
        return work(), None, time.perf_counter() - start
    except Exception as error:  # whoever waits gets it
        return None, error, time.perf_counter() - start


def _deliver(future: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
