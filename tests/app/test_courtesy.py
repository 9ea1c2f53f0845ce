"""Work that can wait begins between predictions, and does not wait for ever."""

import asyncio
import time

from app.courtesy import Courtesy

LONG_S = 30.0


def test_where_nothing_runs_the_turn_comes_at_once() -> None:
    asyncio.run(asyncio.wait_for(Courtesy(LONG_S).turn(), 1))


def test_it_waits_for_the_last_of_the_predictions() -> None:
    async def work() -> None:
        courtesy = Courtesy(LONG_S)
        with courtesy.prediction():
            with courtesy.prediction():
                waiting = asyncio.create_task(courtesy.turn())
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(work())


def test_beside_endless_predictions_it_begins_all_the_same() -> None:
    async def work() -> float:
        courtesy = Courtesy(patience_s=0.05)
        begin = time.monotonic()
        with courtesy.prediction():
            await courtesy.turn()
        return time.monotonic() - begin

    assert 0.04 < asyncio.run(work()) < 5


def test_a_prediction_that_fails_is_over() -> None:
    async def work() -> None:
        courtesy = Courtesy(LONG_S)
        try:
            with courtesy.prediction():
                raise ValueError("of the model")
        except ValueError:
            await asyncio.wait_for(courtesy.turn(), 1)

    asyncio.run(work())
