"""Codec threads: fair between flows, bounded in memory, and nothing begins for those who left or are late."""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.core.errors import DeadlineError
from app.scheduling.fair_executor import FairExecutor
from app.scheduling.fair_queue import Flow

HOG, RARE = Flow("", "hog"), Flow("", "rare")


class Bench:
    """Threads whose first job holds them until `go`, and what ran in which order."""

    def __init__(self, executor: ThreadPoolExecutor, threads: int, memory_bytes: int) -> None:
        self.threads = FairExecutor(executor, threads, memory_bytes=memory_bytes)
        self.go = threading.Event()
        self.ran: list[str] = []
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def work(self, name: str) -> Callable[[], str]:
        def run() -> str:
            with self._lock:
                self.ran.append(name)
                self.running += 1
                self.most = max(self.most, self.running)
            self.go.wait(5)
            with self._lock:
                self.running -= 1
            return name

        return run

    def start(
        self, name: str, flow: Flow = HOG, cost_us: int = 100_000, deadline: float = math.inf, **options: Any
    ) -> "asyncio.Task[str]":
        job = self.threads.run(flow, self.work(name), cost_us=cost_us, deadline=deadline, **options)
        return asyncio.create_task(job)


def run(scenario: Callable[[Bench], Awaitable[None]], threads: int = 1, memory_bytes: int = 100) -> None:
    async def bounded() -> None:
        with ThreadPoolExecutor(threads) as executor:
            bench = Bench(executor, threads, memory_bytes)
            try:
                async with asyncio.timeout(10):
                    await scenario(bench)
            finally:
                bench.go.set()

    asyncio.run(bounded())


async def begun(bench: Bench, count: int) -> None:
    while len(bench.ran) < count:
        await asyncio.sleep(0.001)


def test_a_flood_of_one_flow_does_not_delay_another() -> None:
    async def scenario(bench: Bench) -> None:
        jobs = [bench.start(f"hog{i}") for i in range(20)]
        await begun(bench, 1)
        jobs.append(bench.start("rare", RARE))
        await asyncio.sleep(0)
        assert bench.threads.waiting == 20
        bench.go.set()
        assert await asyncio.gather(*jobs) == [f"hog{i}" for i in range(20)] + ["rare"]
        assert bench.ran.index("rare") <= 2

    run(scenario)


def test_what_is_nearer_to_its_answer_goes_first_within_a_flow() -> None:
    async def scenario(bench: Bench) -> None:
        jobs = [bench.start("decode0"), bench.start("decode1"), bench.start("encode", ahead=True)]
        bench.go.set()
        await asyncio.gather(*jobs)
        assert bench.ran == ["decode0", "encode", "decode1"]

    run(scenario)


def test_a_flow_pays_what_its_work_took_not_what_was_guessed() -> None:
    async def scenario(bench: Bench) -> None:
        bench.go.set()

        def dear() -> None:
            time.sleep(0.03)
            bench.ran.append("slow")

        slow = [asyncio.create_task(bench.threads.run(HOG, dear, cost_us=1, deadline=math.inf)) for _ in range(10)]
        fair = [bench.start(f"fair{i}", RARE, cost_us=1) for i in range(60)]  # as cheap as was said: all before long
        await asyncio.gather(*slow, *fair)
        assert bench.ran.index("fair59") < len(bench.ran) - 2

    run(scenario)


def test_work_of_those_who_left_is_not_begun() -> None:
    async def scenario(bench: Bench) -> None:
        jobs = [bench.start("first"), bench.start("left"), bench.start("last")]
        await begun(bench, 1)
        jobs[1].cancel()
        await asyncio.sleep(0.01)
        assert bench.threads.waiting == 1
        bench.go.set()
        await asyncio.gather(*jobs, return_exceptions=True)
        assert bench.ran == ["first", "last"]

    run(scenario)


def test_work_whose_deadline_passed_is_not_begun() -> None:
    async def scenario(bench: Bench) -> None:
        first, late = bench.start("first"), bench.start("late", deadline=time.monotonic() + 0.02)
        await begun(bench, 1)
        await asyncio.sleep(0.03)
        bench.go.set()
        with pytest.raises(DeadlineError, match="codec thread"):
            await late
        await first
        assert bench.ran == ["first"]

    run(scenario)


def test_a_thread_is_free_again_after_a_fault_and_after_its_client_left() -> None:
    async def scenario(bench: Bench) -> None:
        def fail() -> None:
            raise ValueError("broken photo")

        with pytest.raises(ValueError, match="broken photo"):
            await bench.threads.run(HOG, fail, cost_us=1, deadline=math.inf)
        left = bench.start("left")
        await begun(bench, 1)
        left.cancel()
        bench.go.set()
        assert await bench.start("next") == "next"

    run(scenario)


def test_memory_is_bounded_and_does_not_hold_up_what_needs_none() -> None:
    async def scenario(bench: Bench) -> None:
        large = [bench.start(f"large{i}", nbytes=60) for i in range(3)]
        small = [bench.start(f"small{i}") for i in range(2)]
        await begun(bench, 3)
        assert bench.ran == ["large0", "small0", "small1"]  # two large ones would be 120 of 100 bytes
        bench.go.set()
        await asyncio.gather(*large, *small)
        assert bench.ran[3:] == ["large1", "large2"]

    run(scenario, threads=4)


def test_what_needs_more_memory_than_there_is_runs_alone_and_is_not_overtaken_for_ever() -> None:
    async def scenario(bench: Bench) -> None:
        first = bench.start("first", nbytes=50)
        await begun(bench, 1)
        jobs = [bench.start("monster", nbytes=500), *(bench.start(f"later{i}", nbytes=50) for i in range(3))]
        await asyncio.sleep(0.01)
        assert bench.ran == ["first"]
        bench.go.set()
        await asyncio.gather(first, *jobs)
        assert bench.ran[:2] == ["first", "monster"]

    run(scenario, threads=4)


@pytest.mark.parametrize("rare", [RARE, Flow("other key", "hog")], ids=["another set", "another caller"])
def test_what_lacks_memory_is_served_flow_by_flow(rare: Flow) -> None:
    """However many large ones somebody sends first, another waits for the one that runs."""

    async def scenario(bench: Bench) -> None:
        jobs = [bench.start(f"hog{i}", nbytes=200) for i in range(4)]
        await begun(bench, 1)
        jobs += [bench.start(f"rare{i}", rare, nbytes=60) for i in range(2)]
        await asyncio.sleep(0)
        assert bench.threads.waiting == 5
        bench.go.set()
        await asyncio.gather(*jobs)
        assert bench.ran[:3] == ["hog0", "rare0", "hog1"]
        assert sorted(bench.ran[3:]) == ["hog2", "hog3", "rare1"]
        assert bench.ran.index("rare1") < bench.ran.index("hog3")
        assert not bench.threads._turns

    run(scenario, threads=8)


def test_sets_of_one_caller_have_one_callers_turns_in_memory() -> None:
    async def scenario(bench: Bench) -> None:
        jobs = [bench.start(f"hog{i}", Flow("hog", f"set{i}"), nbytes=200) for i in range(4)]
        await begun(bench, 1)
        jobs.append(bench.start("rare", Flow("rare", "set0"), nbytes=200))
        await asyncio.sleep(0)
        bench.go.set()
        await asyncio.gather(*jobs)
        assert bench.ran[:2] == ["hog0", "rare"]

    run(scenario, threads=8)


def test_who_leaves_while_lacking_memory_makes_room() -> None:
    async def scenario(bench: Bench) -> None:
        first = bench.start("first", nbytes=60)
        await begun(bench, 1)
        monster, small = bench.start("monster", nbytes=500), bench.start("small", nbytes=40)
        await asyncio.sleep(0.01)
        monster.cancel()
        await begun(bench, 2)
        assert bench.ran == ["first", "small"]
        bench.go.set()
        await asyncio.gather(first, small)

    run(scenario, threads=4)


def together(bench: Bench, *names: str, deadline: float = math.inf, nbytes: int = 0) -> "asyncio.Task[list[str]]":
    works = [bench.work(name) for name in names]
    return asyncio.create_task(
        bench.threads.run_all(HOG, works, cost_us=100_000, deadline=deadline, nbytes=nbytes, ahead=True)
    )


def test_works_that_belong_together_run_side_by_side_and_come_back_in_order() -> None:
    async def scenario(bench: Bench) -> None:
        all_of_them = together(bench, "a", "b", "c")
        await begun(bench, 2)
        bench.go.set()
        assert await all_of_them == ["a", "b", "c"]
        assert bench.most == 2

    run(scenario, threads=2)


def test_the_first_error_ends_works_that_belong_together() -> None:
    async def scenario(bench: Bench) -> None:
        def fail() -> str:
            raise ValueError("broken map")

        works = [fail, bench.work("beside"), bench.work("never")]
        with pytest.raises(ValueError, match="broken map"):
            await bench.threads.run_all(HOG, works, cost_us=1, deadline=math.inf, nbytes=100)
        bench.go.set()
        assert await bench.start("next", nbytes=100) == "next"  # the memory is given back
        assert "never" not in bench.ran

    run(scenario, threads=1)


def test_works_of_those_who_left_are_not_begun_and_give_their_memory_back() -> None:
    async def scenario(bench: Bench) -> None:
        left = together(bench, "a", "b", "c", nbytes=100)
        await begun(bench, 2)
        left.cancel()
        waiting = bench.start("next", nbytes=1)
        await asyncio.sleep(0.01)
        assert bench.threads.waiting == 1  # for the memory that what runs still takes
        bench.go.set()
        assert await waiting == "next"
        assert sorted(bench.ran) == ["a", "b", "next"]

    run(scenario, threads=2)


def test_works_whose_deadline_passed_give_their_memory_back() -> None:
    async def scenario(bench: Bench) -> None:
        late = together(bench, "a", "b", deadline=time.monotonic() + 0.02, nbytes=100)
        await begun(bench, 1)
        await asyncio.sleep(0.03)
        bench.go.set()
        with pytest.raises(DeadlineError, match="codec thread"):
            await late
        assert await bench.start("next", nbytes=100) == "next"
        assert bench.ran == ["a", "next"]

    run(scenario, threads=1)


def test_works_that_have_their_memory_are_not_held_up_by_others_that_lack_it() -> None:
    """Two large answers, one thread: the second work of the first goes before the second answer, or neither ended."""

    async def scenario(bench: Bench) -> None:
        first = bench.start("holds the thread")
        await begun(bench, 1)
        answers = [together(bench, f"{name}0", f"{name}1", nbytes=80) for name in "ab"]
        await asyncio.sleep(0)
        bench.go.set()
        await asyncio.gather(first, *answers)
        assert bench.ran[1:] == ["a0", "a1", "b0", "b1"]

    run(scenario, threads=3)


def test_never_more_at_once_than_there_are_threads() -> None:
    async def scenario(bench: Bench) -> None:
        jobs = [bench.start(str(i)) for i in range(9)]
        await begun(bench, 3)
        bench.go.set()
        await asyncio.gather(*jobs)
        assert bench.most <= 3

    run(scenario, threads=3)


def test_a_closed_pool_cancels_what_waits() -> None:
    async def scenario() -> None:
        executor = ThreadPoolExecutor(1)
        bench = Bench(executor, 2, 100)  # one more than there are, so that one waits in the executor itself
        jobs = [bench.start("runs"), bench.start("waits")]
        await begun(bench, 1)
        executor.shutdown(wait=False, cancel_futures=True)
        bench.go.set()
        assert await jobs[0] == "runs"
        with pytest.raises(asyncio.CancelledError):
            await jobs[1]

    asyncio.run(scenario())


def test_what_takes_little_never_waits_for_memory() -> None:
    """One answer larger than all the memory runs alone among the large ones; small ones go on beside it."""

    async def scenario() -> None:
        with ThreadPoolExecutor(2) as executor:
            threads = FairExecutor(executor, 2, memory_bytes=100, free_bytes=10)
            begun, go = threading.Event(), threading.Event()

            def hold() -> str:
                begun.set()
                go.wait(20)
                return "large"

            large = asyncio.create_task(threads.run(HOG, hold, cost_us=1, deadline=math.inf, nbytes=1000))
            await asyncio.to_thread(begun.wait, 20)
            assert await threads.run(RARE, lambda: "small", cost_us=1, deadline=math.inf, nbytes=10) == "small"
            assert not large.done()
            go.set()
            assert await large == "large"

    asyncio.run(scenario())
