"""Work is told to stop at its deadline, and when nobody waits for it any more."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core.errors import ClientGoneError, DeadlineError
from app.scheduling.fair_executor import FairExecutor
from app.scheduling.fair_queue import Flow
from app.scheduling.stop import Stop


def test_the_deadline() -> None:
    now = 4.0
    stop = Stop(5.0, clock=lambda: now)
    stop.check()
    now = 5.0
    with pytest.raises(DeadlineError, match="while the answer was encoded"):
        stop.check()


def test_nobody_waits() -> None:
    with Stop(1.0, clock=lambda: 0.0) as stop:
        stop.check()
    with pytest.raises(ClientGoneError, match="nobody waits"):
        stop.check()


def test_running_work_ends_when_its_call_is_cancelled() -> None:
    async def scenario() -> None:
        begun, ended = threading.Event(), threading.Event()
        errors: list[Exception] = []

        def work(stop: Stop) -> None:
            begun.set()
            try:
                while True:
                    stop.check()
            except ClientGoneError as error:
                errors.append(error)
                ended.set()

        async def call(threads: FairExecutor) -> None:
            with Stop(float("inf")) as stop:
                await threads.run(Flow("", "a"), lambda: work(stop), cost_us=1, deadline=float("inf"))

        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(call(FairExecutor(pool, 1, memory_bytes=1)))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(ended.wait)
        assert len(errors) == 1

    asyncio.run(scenario())
