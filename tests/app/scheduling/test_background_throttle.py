"""Changes begin between predictions, leave them most of the time, and do not wait for ever."""

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest

from app.scheduling.background_throttle import SHARE, BackgroundThrottle
from testing.clocks import run_skipping

LONG_S = 30.0


def run(scenario: Coroutine[Any, Any, None]) -> None:
    run_skipping(asyncio.wait_for(scenario, 20))


def throttle_of(patience_s: float = LONG_S, share: float = SHARE) -> BackgroundThrottle:
    return BackgroundThrottle(patience_s, share, asyncio.get_running_loop().time)


async def change(throttle: BackgroundThrottle, seconds: float = 0.0) -> float:
    """When it began."""
    async with throttle.change():
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
    return begun


async def begins_within(throttle: BackgroundThrottle, seconds: float) -> bool:
    before = asyncio.get_running_loop().time()
    return await change(throttle) - before < seconds


def test_where_nothing_runs_a_change_begins_at_once() -> None:
    async def scenario() -> None:
        assert await begins_within(throttle_of(), 1)

    run(scenario())


def test_it_waits_for_the_last_of_the_predictions() -> None:
    async def scenario() -> None:
        throttle = throttle_of()
        with throttle.prediction():
            with throttle.prediction():
                waiting = asyncio.create_task(change(throttle))
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await waiting

    run(scenario())


def test_beside_endless_predictions_it_begins_all_the_same() -> None:
    async def scenario() -> None:
        throttle = throttle_of(patience_s=0.05)
        before = asyncio.get_running_loop().time()
        with throttle.prediction():
            assert await change(throttle) - before == pytest.approx(0.05)

    run(scenario())


def test_changes_that_come_together_run_one_after_the_other() -> None:
    async def scenario() -> None:
        throttle = throttle_of()
        starts = sorted(await asyncio.gather(*(change(throttle, 0.05) for _ in range(3))))
        assert all(later - earlier == pytest.approx(0.05) for earlier, later in pairwise(starts))

    run(scenario())


def test_beside_traffic_changes_take_their_share_of_the_time() -> None:
    async def scenario() -> None:
        throttle = throttle_of(patience_s=0.0, share=0.25)
        with throttle.prediction():
            starts = [await change(throttle, 0.05) for _ in range(4)]
        assert all(later - earlier == pytest.approx(0.2) for earlier, later in pairwise(starts))

    run(scenario())


def test_traffic_is_spared_for_a_while_after_its_last_prediction() -> None:
    async def scenario() -> None:
        throttle = throttle_of(share=0.25)
        with throttle.prediction():
            pass
        first, second = await change(throttle, 0.05), await change(throttle)
        assert second - first == pytest.approx(0.2)

    run(scenario())


def test_without_traffic_changes_do_not_rest() -> None:
    async def scenario() -> None:
        throttle = throttle_of(share=0.001)
        before = asyncio.get_running_loop().time()
        for _ in range(4):
            await change(throttle, 0.02)
        assert asyncio.get_running_loop().time() - before == pytest.approx(0.08)  # one rest would take a second

    run(scenario())


def test_a_change_that_took_long_keeps_the_next_waiting_for_a_second_and_no_longer() -> None:
    async def scenario() -> None:
        throttle = throttle_of(patience_s=0.0, share=0.001)
        with throttle.prediction():
            first, second = await change(throttle, 0.1), await change(throttle)
        assert second - first == pytest.approx(1.1)  # and not the 100 s of such a share

    run(scenario())


@pytest.mark.parametrize("kind", ["prediction", "change"])
def test_what_fails_is_over(kind: str) -> None:
    async def scenario() -> None:
        throttle = throttle_of()
        with pytest.raises(ValueError, match="on purpose"):
            if kind == "prediction":
                with throttle.prediction():
                    raise ValueError("on purpose")
            async with throttle.change():
                raise ValueError("on purpose")
        assert await begins_within(throttle, 5)

    run(scenario())


def test_who_gives_up_waiting_keeps_no_one_else_out() -> None:
    async def scenario() -> None:
        throttle = throttle_of()
        with throttle.prediction():
            waiting = asyncio.create_task(change(throttle))
            await asyncio.sleep(0.01)
            waiting.cancel()
        assert await begins_within(throttle, 5)

    run(scenario())
