"""Threads for a store that may hang: bounded in number and in time, and what was given up is not forgotten."""

import asyncio
import threading
import time

import pytest

from app.core.errors import AdapterNotFoundError, StoreUnavailableError
from app.store.store_threads import StoreThreads

SHORT_S = 0.02


def threads(*, threads: int = 1, waiting: int = 100, timeout_s: float = 30.0) -> StoreThreads:
    return StoreThreads("test", threads=threads, waiting=waiting, timeout_s=timeout_s)


def fail(error: Exception) -> None:
    raise error


def test_results_and_errors_come_back() -> None:
    async def main() -> None:
        pool = threads()
        assert await pool.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(AdapterNotFoundError, match="no such set"):
            await pool.run(fail, AdapterNotFoundError("no such set"))
        with pytest.raises(StoreUnavailableError, match="cannot be used: sets: No such file") as caught:
            await pool.run(fail, FileNotFoundError(2, "No such file", "/secret/place/sets"))
        assert "secret" not in caught.value.detail
        with pytest.raises(ZeroDivisionError):  # a bug stays a bug
            await pool.run(divmod, 1, 0)
        assert await pool.run(lambda: threading.current_thread().daemon)  # no hanging thread keeps the process

    asyncio.run(main())


def test_no_more_at_a_time_than_there_are_threads() -> None:
    running = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    async def main() -> None:
        pool = threads(threads=2)
        await asyncio.gather(*(pool.run(work) for _ in range(40)))

    asyncio.run(main())
    assert most == 2


def test_threads_that_hang_are_given_up_then_nobody_waits_for_them_and_they_may_come_back() -> None:
    go = threading.Event()

    async def main() -> None:
        pool = threads(threads=2, timeout_s=SHORT_S)
        stuck = [pool.run(go.wait, 60) for _ in range(2)]
        for outcome in await asyncio.gather(*stuck, return_exceptions=True):
            assert isinstance(outcome, StoreUnavailableError)
            assert "may have been made" in outcome.detail
        with pytest.raises(StoreUnavailableError, match="2 threads wait for it"):
            await pool.run(int)
        go.set()
        while True:
            try:
                assert await pool.run(int) == 0
                return
            except StoreUnavailableError:
                await asyncio.sleep(SHORT_S)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_beyond_those_that_may_wait_nobody_does() -> None:
    go = threading.Event()

    async def main() -> None:
        pool = threads(waiting=2)
        calls = [asyncio.ensure_future(pool.run(go.wait, 60)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError, match="2 requests wait for the adapter store"):
            await pool.run(int)
        go.set()
        assert await asyncio.gather(*calls) == [True] * 3

    asyncio.run(main())


def test_what_found_no_thread_in_time_was_not_begun() -> None:
    go, begun = threading.Event(), threading.Event()

    async def main() -> None:
        pool = threads(timeout_s=SHORT_S)
        first = asyncio.ensure_future(pool.run(go.wait, 60))
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError, match="nothing was begun"):
            await pool.run(begun.set)
        go.set()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(main())
    assert not begun.is_set()


def test_a_caller_that_leaves_gives_no_thread_back_before_it_is_done() -> None:
    go = threading.Event()

    async def main() -> None:
        pool = threads(waiting=0)
        gone = asyncio.ensure_future(pool.run(go.wait, 60))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        with pytest.raises(StoreUnavailableError, match="wait for the adapter store"):
            await pool.run(int)
        go.set()
        while True:
            try:
                assert await pool.run(int) == 0
                return
            except StoreUnavailableError:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 30))
