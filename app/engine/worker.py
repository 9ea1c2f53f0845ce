"""The engine thread, the only one that calls the model: OpenMP pools belong to the calling thread."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from app.core.errors import DeadlineError, InferenceError, NotReadyError, ServiceError
from app.engine.engine import Engine
from app.engine.micro_batch import BatchLimits, patience, take_batch
from app.engine.torch_threads import CHOSEN, use_threads
from app.engine.work_item import Item
from app.residency.loader import AdaptedSet
from app.scheduling.compute_share import affordable
from app.scheduling.fair_queue import FairQueue

log = logging.getLogger(__name__)

BURST_US = 2_000_000
"""How far a set that was used little may be ahead of the others, in time of the engine."""

T = TypeVar("T")


class BatchEvents(Protocol):
    """What the worker tells of itself; telemetry listens, from the worker's thread."""

    def batch(self, images: int, adapters: int) -> None:
        """A micro-batch is about to run."""


class Worker:
    """Takes waiting items by the policy, runs them, hands the outcomes back to the event loop."""

    def __init__(self, engine: Engine, events: BatchEvents, limits: BatchLimits, *, threads: int = 0) -> None:
        self.engine = engine
        self._events = events
        self._limits = limits
        self._threads = threads
        self._queue: FairQueue[Item] = FairQueue(burst=BURST_US)
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="mtlora-engine", daemon=True)

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Run what waits, then end the thread; blocks until it has ended."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def submit(self, item: Item) -> None:
        """Queue an item; its future gets the outcome. Called on the event loop, never blocks for long."""
        with self._wake:
            if self._stopping:
                raise NotReadyError(f"the engine is stopping; {len(self._queue)} images are finished first")
            self._queue.push(item.flow, item, item.cost_us)
            self._wake.notify()

    def drop(self, item: Item) -> None:
        """Nobody wants this item any more: out of the queue at once, or out of its batch if that has not begun."""
        item.dropped.set()
        with self._wake:
            waited = self._queue.discard(item.flow, item)
        if waited:
            item.future.cancel()

    def warm(self, adapted: AdaptedSet) -> None:
        """Run what the limits allow once; to be called in the engine's thread."""
        self.engine.warm(adapted, self._limits.images)

    async def call(self, work: Callable[[], None]) -> None:
        """Run something in the engine's thread, before any image that waits (warm-up), and wait for it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._wake:
            self._calls.append(partial(_run_call, work, future))
            self._wake.notify()
        await future

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        with self._wake:
            return len(self._queue)

    def _main(self) -> None:
        use_threads(self._threads or CHOSEN)
        while (work := self._next_work()) is not None:
            work()

    def _next_work(self) -> Callable[[], None] | None:
        """A call or the next micro-batch, waiting for one if need be; None when the worker is to end."""
        with self._wake:
            while True:
                if self._calls:
                    return self._calls.popleft()
                if len(self._queue):
                    pause = 0.0 if self._stopping else patience(self._queue, self._limits, time.monotonic())
                    if not pause:
                        return partial(self._run, self._next_batch())
                    self._wake.wait(pause)
                elif self._stopping:
                    return None
                else:
                    self._wake.wait()

    def _next_batch(self) -> list[Item]:
        """The next images, and how much of them is computed; under the lock."""
        batch = take_batch(self._queue, self._limits)
        if any(item.budget.is_open for item in batch):
            share = affordable([*batch, *self._queue], time.monotonic(), self._limits.calm_s)
            for item in batch:
                item.compute = item.budget.clamp(share)
        return batch

    def _run(self, batch: list[Item]) -> None:
        """Run a batch and deliver every outcome as soon as it is there."""
        left = dict.fromkeys(batch)
        failure: str | None = None
        try:
            self._events.batch(len(batch), len({item.ref for item in batch}))
            for item, outcome in self.engine.run(batch):
                del left[item]
                self._charge(item)
                _call_soon(item.future, partial(_deliver, item.future, outcome))
        except Exception as error:  # a bug in the engine must not end the thread that serves everyone
            log.exception("micro-batch failed")
            failure = type(error).__name__
        if failure and len(batch) > 1:
            for item in left:
                self._run([item])
            return
        for item in left:
            self._charge(item)
            _call_soon(item.future, partial(_give_up, item, failure))

    def _charge(self, item: Item) -> None:
        """The flow paid what the item was expected to cost; let it pay what it took."""
        with self._wake:
            self._queue.charge(item.flow, round(item.took_s * 1e6) - item.cost_us)


def _give_up(item: Item, failure: str | None) -> None:
    """End an item that the engine did not answer."""
    if item.dropped.is_set():
        item.future.cancel()
        return
    error: ServiceError = DeadlineError("the deadline passed while the image waited for the engine")
    _deliver(item.future, InferenceError(f"the micro-batch failed: {failure}") if failure else error)


def _run_call(work: Callable[[], None], future: "asyncio.Future[None]") -> None:
    try:
        work()
    except Exception as error:  # the caller gets it; the thread goes on
        _call_soon(future, partial(_deliver, future, error))
    else:
        _call_soon(future, partial(_deliver, future, None))


def _call_soon(future: "asyncio.Future[T]", callback: Callable[[], object]) -> None:
    future.get_loop().call_soon_threadsafe(callback)


def _deliver(future: "asyncio.Future[T]", outcome: T | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
