"""The worker: hands outcomes back, skips what was dropped, survives bugs, drains on stop."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from app.core.errors import DeadlineError, InferenceError, NotReadyError
from app.engine.engine import Engine
from app.engine.micro_batch import BatchLimits
from app.engine.work_item import Forwarded, Item
from app.engine.worker import Worker
from mtlora.vocabulary.tasks import Task
from testing.fake_engine import FakeEngine, NoEvents, item


def run(
    engine: Engine, scenario: Callable[[Worker], Coroutine[Any, Any, None]], limits: BatchLimits | None = None
) -> None:
    async def bounded() -> None:
        worker = Worker(engine, NoEvents(), limits or BatchLimits(images=4))
        worker.start()
        try:
            async with asyncio.timeout(10):
                await scenario(worker)
        finally:
            await asyncio.to_thread(worker.stop)

    asyncio.run(bounded())


def test_each_item_gets_its_own_outcome() -> None:
    async def scenario(worker: Worker) -> None:
        items = [item(float(i)) for i in range(20)]
        for one in items:
            worker.submit(one)
        outcomes = await asyncio.gather(*(one.future for one in items))
        assert [float(o.logits[Task.SEMSEG]) for o in outcomes] == list(range(20))

    run(FakeEngine(), scenario)


def test_dropped_items_never_reach_the_engine() -> None:
    hold = threading.Event()
    engine = FakeEngine(lambda items: hold.wait(5))

    async def scenario(worker: Worker) -> None:
        first, dropped, kept = item(0), item(1), item(2)
        worker.submit(first)
        while not engine.seen:
            await asyncio.sleep(0.001)
        worker.submit(dropped)
        worker.submit(kept)
        worker.drop(dropped)
        assert dropped.future.cancelled()  # at once, not when the engine is free
        assert worker.waiting == 1
        hold.set()
        await kept.future
        assert engine.seen == [[0.0], [2.0]]

    run(engine, scenario)


def test_a_bug_in_the_engine_is_answered_and_the_thread_goes_on() -> None:
    def fail_once(items: Sequence[Item]) -> None:
        if float(items[0].pixels) == 0:
            raise RuntimeError("bug")

    async def scenario(worker: Worker) -> None:
        bad, good = item(0), item(1)
        worker.submit(bad)
        with pytest.raises(InferenceError, match="micro-batch failed: RuntimeError"):
            await bad.future
        worker.submit(good)
        await good.future

    run(FakeEngine(fail_once), scenario)


def test_a_bug_in_the_engine_does_not_reach_the_neighbours_in_the_batch() -> None:
    hold = threading.Event()

    def fail_with_two(items: Sequence[Item]) -> None:
        hold.wait(5)
        if any(float(one.pixels) == 2 for one in items):
            raise RuntimeError("bug")

    engine = FakeEngine(fail_with_two)

    async def scenario(worker: Worker) -> None:
        items = [item(float(value)) for value in range(4)]
        for one in items:
            worker.submit(one)
        hold.set()
        outcomes = await asyncio.gather(*(one.future for one in items), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Forwarded, Forwarded, InferenceError, Forwarded]

    run(engine, scenario)


def test_an_item_is_not_run_if_it_is_dropped_or_late_between_batch_and_pass() -> None:
    hold = threading.Event()
    engine = FakeEngine(lambda items: hold.wait(5))

    async def scenario(worker: Worker) -> None:
        left = item(1)
        worker.submit(left)
        while not engine.seen:
            await asyncio.sleep(0.001)
        worker.drop(left)
        late = item(2, deadline=time.monotonic() + 0.05)
        worker.submit(late)
        await asyncio.sleep(0.06)
        hold.set()
        outcomes = await asyncio.gather(left.future, late.future, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert isinstance(outcomes[1], DeadlineError)

    run(engine, scenario)


def test_rare_sets_do_not_wait_for_the_backlog_of_a_busy_one() -> None:
    """In the thread itself: what is served next follows the policy, image by image."""
    hold = threading.Event()
    engine = FakeEngine(lambda items: hold.wait(5))

    async def scenario(worker: Worker) -> None:
        busy = [item(0.0, "busy", whole_us=1_000_000) for _ in range(40)]
        for one in busy:
            worker.submit(one)
        while not engine.seen:
            await asyncio.sleep(0.001)
        rare = [item(float(number), f"rare{number}", whole_us=1_000_000) for number in range(1, 4)]
        for one in rare:
            worker.submit(one)
        hold.set()
        await asyncio.gather(*(one.future for one in busy + rare))
        assert engine.seen[:4] == [[0.0], [1.0], [2.0], [3.0]]

    run(engine, scenario, BatchLimits(images=1))


def test_a_flow_pays_what_its_images_took_not_what_was_expected() -> None:
    """Both were expected to cost the same; one pass of the slow set is worth many of the quick one."""
    hold = threading.Event()

    def work(items: Sequence[Item]) -> None:
        hold.wait(5)
        for one in items:
            one.took_s = 10.0 if one.flow.adapter == "slow" else 0.001

    engine = FakeEngine(work)

    async def scenario(worker: Worker) -> None:
        slow = [item(1.0, "slow", whole_us=50_000) for _ in range(4)]
        quick = [item(2.0, "quick", whole_us=50_000) for _ in range(6)]
        for one in slow:
            worker.submit(one)
        while not engine.seen:
            await asyncio.sleep(0.001)
        for one in quick:
            worker.submit(one)
        hold.set()
        await asyncio.gather(*(one.future for one in slow + quick))
        assert engine.seen == [[1.0]] + [[2.0]] * 6 + [[1.0]] * 3

    run(engine, scenario, BatchLimits(images=1))


def test_nothing_is_waited_for_by_default() -> None:
    engine = FakeEngine()

    async def scenario(worker: Worker) -> None:
        one = item(0)
        worker.submit(one)
        await one.future
        assert time.monotonic() - one.enqueued < 5

    run(engine, scenario, BatchLimits(images=64))


def test_a_batch_is_waited_for_when_a_setting_says_so_counted_from_the_first_arrival() -> None:
    engine = FakeEngine()

    async def scenario(worker: Worker) -> None:
        first = item(0)
        worker.submit(first)
        await asyncio.sleep(0.05)
        second = item(1)
        worker.submit(second)
        await asyncio.gather(first.future, second.future)
        assert time.monotonic() - first.enqueued >= 0.3
        assert engine.seen == [[0.0, 1.0]]

    run(engine, scenario, BatchLimits(images=8, wait_s=0.3))


def test_a_full_batch_does_not_wait() -> None:
    engine = FakeEngine()

    async def scenario(worker: Worker) -> None:
        items = [item(0), item(1)]
        for one in items:
            worker.submit(one)
        await asyncio.gather(*(one.future for one in items))
        assert engine.seen == [[0.0, 1.0]]

    run(engine, scenario, BatchLimits(images=2, wait_s=60))


def test_stop_finishes_what_waits_and_admits_no_more() -> None:
    async def scenario(worker: Worker) -> None:
        items = [item(float(i)) for i in range(10)]
        for one in items:
            worker.submit(one)
        await asyncio.to_thread(worker.stop)
        await asyncio.gather(*(one.future for one in items))
        with pytest.raises(NotReadyError, match="stopping"):
            worker.submit(item(0))

    run(FakeEngine(), scenario, BatchLimits(images=1))


def test_calls_run_in_the_engine_s_thread() -> None:
    async def scenario(worker: Worker) -> None:
        names: list[str] = []
        await worker.call(lambda: names.append(threading.current_thread().name))
        assert names == ["mtlora-engine"]

        def fail() -> None:
            raise ValueError("not warm")

        with pytest.raises(ValueError, match="not warm"):
            await worker.call(fail)

    run(FakeEngine(), scenario)
