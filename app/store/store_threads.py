"""Store threads: a store that hangs takes these threads and no others, and nobody waits for ever.

Lives on the event loop. Each work has a thread of its own, which does not keep the process from ending.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from app.core.errors import StoreUnavailableError
from app.store.open_no_link import NOT_ANSWERED, reason_of

P = ParamSpec("P")
T = TypeVar("T")


class StoreThreads:
    """So many works at a time, so many that wait for a thread, and a time after which both are given up."""

    def __init__(self, purpose: str, *, threads: int, waiting: int, timeout_s: float) -> None:
        self._purpose = purpose
        self._threads = threads
        self._most_waiting = waiting
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(threads)
        self._waiting = 0
        self._overdue: list[float] = []  # when works began that nobody waits for any more, and that have not come back

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of blocking work. `StoreUnavailableError` if the store fails, or does not answer in time.

        At once, where all threads hang or too many wait; then, and where no thread was free in time, nothing was begun.
        """
        await self._take_thread()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_seen)
        call, began = _Call(future, lambda: work(*args, **kwargs), self._free.release), time.monotonic()
        threading.Thread(target=call.run, name=f"mtlora-store-{self._purpose}", daemon=True).start()
        done, _ = await asyncio.wait({future}, timeout=2 * self._timeout_s)  # a change may wait half of it for the lock
        if not done:
            self._overdue.append(began)
            future.add_done_callback(lambda _: self._overdue.remove(began))
            more = "; if this was a change, it may have been made, or still be"
            raise StoreUnavailableError(NOT_ANSWERED, time.monotonic() - began, more)
        try:
            return future.result()
        except OSError as error:
            raise StoreUnavailableError(f"the adapter store cannot be used: {reason_of(error)}") from error

    async def _take_thread(self) -> None:
        if len(self._overdue) >= self._threads:
            more = f"; {len(self._overdue)} threads wait for it"
            raise StoreUnavailableError(NOT_ANSWERED, time.monotonic() - min(self._overdue), more)
        if self._free.locked() and self._waiting >= self._most_waiting:
            raise StoreUnavailableError(f"{self._waiting} requests wait for the adapter store, more are not taken")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailableError(
                f"the adapter store was busy for {self._timeout_s:g} s; nothing was begun"
            ) from None
        finally:
            self._waiting -= 1


def _seen(future: "asyncio.Future[Any]") -> None:
    """Work that was given up may still fail: nobody is left to tell, so it is no unhandled error."""
    if not future.cancelled():
        future.exception()


@dataclass(frozen=True, slots=True)
class AdapterThreads:
    """Threads by what may keep them: nothing of one kind waits behind another."""

    memory: Executor  # what is known already
    uploads: Executor  # writing and checking files
    reads: StoreThreads  # files of the store
    changes: StoreThreads  # what needs the store's lock


class _Call:
    """One work, from its thread back to the event loop."""

    def __init__(self, future: "asyncio.Future[Any]", work: Callable[[], Any], on_done: Callable[[], None]) -> None:
        self._future = future
        self._loop = future.get_loop()
        self._work = work
        self._on_done = on_done

    def run(self) -> None:
        """In the thread."""
        result, error = None, None
        try:
            result = self._work()
        except Exception as raised:  # whoever waits gets it
            error = raised
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._deliver, result, error)

    def _deliver(self, result: object, error: Exception | None) -> None:
        self._on_done()
        if self._future.done():
            return
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
