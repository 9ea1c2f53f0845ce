"""After large work memory is given back, once for all that was done meanwhile; after small work it is kept."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from app.answers.reclaim import LEAST_BYTES, Reclaimer


class Trims:
    """Counts, and says when there was one."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.kept: list[int] = []

    def __call__(self, kept: int) -> None:
        self.kept.append(kept)
        self.loop.call_soon_threadsafe(self.done.set)


def test_once_for_all_that_was_freed() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            trims = Trims()
            reclaimer = Reclaimer(pool, trims, pause_s=0.01)
            for _ in range(5):
                reclaimer.freed(LEAST_BYTES)
            await trims.done.wait()
            assert trims.kept == [0]
            trims.done.clear()
            reclaimer.freed(LEAST_BYTES)
            await trims.done.wait()
            assert trims.kept == [0, 0]

    asyncio.run(scenario())


def test_small_work_is_not_worth_it() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            trims = Trims()
            reclaimer = Reclaimer(pool, trims, pause_s=0.0)
            reclaimer.freed(LEAST_BYTES - 1)
            await asyncio.sleep(0.02)
            assert trims.kept == []

    asyncio.run(scenario())


def test_a_closed_one_asks_no_closed_pool() -> None:
    async def scenario() -> None:
        pool = ThreadPoolExecutor(1)
        trims = Trims()
        reclaimer = Reclaimer(pool, trims, pause_s=0.0)
        reclaimer.freed(LEAST_BYTES)
        reclaimer.close()
        reclaimer.freed(LEAST_BYTES)
        pool.shutdown()
        await asyncio.sleep(0.02)
        assert trims.kept == []

    asyncio.run(scenario())


def test_the_c_library_takes_its_memory_back() -> None:
    """Of glibc; where there is none nothing happens."""

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            reclaimer = Reclaimer(pool, pause_s=0.0)
            reclaimer.freed(LEAST_BYTES)
            await asyncio.sleep(0.02)

    asyncio.run(scenario())


def test_large_work_without_an_end_puts_it_off_only_so_long() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            trims = Trims()
            reclaimer = Reclaimer(pool, trims, pause_s=0.02)
            while not trims.done.is_set():
                reclaimer.freed(LEAST_BYTES)
                await asyncio.sleep(0)
            reclaimer.close()

    asyncio.run(scenario())
