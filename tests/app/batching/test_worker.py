"""The worker: hands outcomes back, skips what was dropped, survives bugs, drains on stop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import torch

from app.batching.request import Forwarded, Item
from app.batching.worker import Worker
from app.engine import Engine, Outcome
from app.errors import InferenceError, NotReadyError
from app.residency.names import AdapterRef
from mtlora.tasks import Task


class FakeEngine(Engine):
    """Answers with the item's own pixels; a hook runs first."""

    def __init__(self, hook: Callable[[Sequence[Item]], None] = lambda items: None) -> None:
        self.hook = hook
        self.seen: list[list[float]] = []

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        self.seen.append([float(item.pixels) for item in items])
        self.hook(items)
        return [Forwarded({Task.SEMSEG: item.pixels}, 0.0, 0.0, len(items), 1) for item in items]


class NoEvents:
    def batch(self, images: int, adapters: int) -> None:
        """Nobody listens."""


def item(value: float, name: str = "a") -> Item:
    future: asyncio.Future[Forwarded] = asyncio.get_running_loop().create_future()
    return Item(AdapterRef(name, 1, "0"), None, (Task.SEMSEG,), torch.tensor(value), future)  # type: ignore[arg-type]


def run(engine: Engine, scenario: Callable[[Worker], Coroutine[Any, Any, None]], most: int = 4) -> None:
    async def bounded() -> None:
        worker = Worker(engine, NoEvents(), max_batch_images=most)
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
    engine = FakeEngine(lambda items: hold.wait(5) and None)

    async def scenario(worker: Worker) -> None:
        first, dropped, kept = item(0), item(1), item(2)
        worker.submit(first)
        while not engine.seen:
            await asyncio.sleep(0.001)
        worker.submit(dropped)
        worker.submit(kept)
        dropped.drop()
        assert worker.waiting == 1
        hold.set()
        await kept.future
        await asyncio.sleep(0)
        assert engine.seen == [[0.0], [2.0]]
        assert dropped.future.cancelled()

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


def test_stop_finishes_what_waits_and_admits_no_more() -> None:
    async def scenario(worker: Worker) -> None:
        items = [item(float(i)) for i in range(10)]
        for one in items:
            worker.submit(one)
        await asyncio.to_thread(worker.stop)
        await asyncio.gather(*(one.future for one in items))
        with pytest.raises(NotReadyError, match="stopping"):
            worker.submit(item(0))

    run(FakeEngine(), scenario, most=1)


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
