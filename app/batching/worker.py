"""The one thread that calls the model: OpenMP pools belong to the calling thread, so there must be no second one."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import torch

from app.batching.policy import choose
from app.batching.request import Item
from app.engine import Engine, Outcome
from app.errors import InferenceError, NotReadyError
from app.residency.names import AdapterRef

log = logging.getLogger(__name__)

REMEMBERED_TURNS = 4096
T = TypeVar("T")


class BatchEvents(Protocol):
    """What the worker tells of itself; telemetry listens, from the worker's thread."""

    def batch(self, images: int, adapters: int) -> None:
        """A micro-batch is about to run."""


class Worker:
    """Takes waiting items by the policy, runs them, hands the outcomes back to the event loop."""

    def __init__(self, engine: Engine, events: BatchEvents, *, max_batch_images: int, threads: int = 0) -> None:
        self.engine = engine
        self._events = events
        self._max_images = max_batch_images
        self._threads = threads
        self._waiting: list[Item] = []
        self._calls: deque[tuple[Callable[[], None], asyncio.Future[None]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._turns: dict[AdapterRef, int] = {}
        self._turn = 0
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
                raise NotReadyError(f"the engine is stopping; {len(self._waiting)} images are finished first")
            self._waiting.append(item)
            self._wake.notify()

    async def call(self, work: Callable[[], None]) -> None:
        """Run something in the engine's thread, before any image that waits (warm-up), and wait for it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._wake:
            self._calls.append((work, future))
            self._wake.notify()
        await future

    @property
    def waiting(self) -> int:
        """Images in the queue, dropped ones not counted."""
        with self._wake:
            return sum(not item.dropped.is_set() for item in self._waiting)

    def _main(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
        while (batch := self._take()) is not None:
            self._run(batch)

    def _take(self) -> list[Item] | None:
        """The next micro-batch, waiting for one if need be; None when the worker is to end."""
        with self._wake:
            while True:
                while self._calls:
                    self._run_call(*self._calls.popleft())
                self._forget_dropped()
                if self._waiting:
                    break
                if self._stopping:
                    return None
                self._wake.wait()
            chosen = choose([item.ref for item in self._waiting], self._turns, self._max_images)
            batch = [self._waiting[position] for position in chosen]
            taken = set(chosen)
            self._waiting = [item for position, item in enumerate(self._waiting) if position not in taken]
        self._count_turns(batch)
        return batch

    def _forget_dropped(self) -> None:
        for item in self._waiting:
            if item.dropped.is_set():
                _call_soon(item.future, item.future.cancel)
        self._waiting = [item for item in self._waiting if not item.dropped.is_set()]

    def _run_call(self, work: Callable[[], None], future: asyncio.Future[None]) -> None:
        try:
            work()
        except Exception as error:  # the caller gets it; the thread goes on
            _call_soon(future, partial(_deliver, future, error))
        else:
            _call_soon(future, partial(_deliver, future, None))

    def _count_turns(self, batch: Sequence[Item]) -> None:
        for ref in {item.ref for item in batch}:
            self._turn += 1
            self._turns.pop(ref, None)
            self._turns[ref] = self._turn
        while len(self._turns) > REMEMBERED_TURNS:
            del self._turns[next(iter(self._turns))]

    def _run(self, batch: list[Item]) -> None:
        try:
            self._events.batch(len(batch), len({item.ref for item in batch}))
            outcomes: list[Outcome] = self.engine.run(batch)
        except Exception as error:  # a bug in the engine must not end the thread that serves everyone
            log.exception("micro-batch failed")
            outcomes = [InferenceError(f"the micro-batch failed: {type(error).__name__}")] * len(batch)
        for item, outcome in zip(batch, outcomes, strict=True):
            _call_soon(item.future, partial(_deliver, item.future, outcome))


def _call_soon(future: "asyncio.Future[T]", callback: Callable[[], object]) -> None:
    future.get_loop().call_soon_threadsafe(callback)


def _deliver(future: "asyncio.Future[T]", outcome: T | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
