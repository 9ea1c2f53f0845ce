"""Decoder processes do as threads do, may be lost, and are replaced; nobody but the photo to blame notices."""

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pytest
import torch

from app.core.errors import (
    BadImageError,
    DeadlineError,
    EmptyBodyError,
    ImageTooCostlyError,
    StartupError,
    TooManyPixelsError,
    UnsupportedMediaError,
)
from app.decoding.decoders import SMALL_BYTES, Decoders, FairSlots, IsolatedDecoders, ThreadedDecoders, Turn
from app.decoding.messages import Limits
from app.decoding.pool import DecoderPool
from app.decoding.process import LENT_SQUARES, Plan
from app.scheduling.fair_executor import FairExecutor
from app.scheduling.fair_queue import Flow
from mtlora.images.opening import open_photo
from mtlora.kernels import kernels
from mtlora.ops.preprocess import preprocess
from testing.photos import costly, encoded
from testing.small_models import SPEC

T = TypeVar("T")
FLOW = Flow("", "default")
TURN = Turn(FLOW, math.inf)
MAX_PIXELS = 4_000_000


def in_seconds(seconds: float) -> Turn:
    return Turn(FLOW, time.monotonic() + seconds)


class Lab:
    """Processes, and why some of them were lost."""

    def __init__(self, count: int, *, seconds: float, memory_bytes: int) -> None:
        native = kernels()
        limits = Limits(MAX_PIXELS, seconds, SMALL_BYTES)
        self.losses: list[str] = []
        self.pool = DecoderPool(
            Plan(limits, 20_000_000, 256, native.path if native else None), count, self.losses.append
        )
        self.decoders: Decoders = IsolatedDecoders(
            self.pool, FairSlots(count, memory_bytes=memory_bytes), most_bytes=1 << 30
        )


def run(
    work: Callable[[Lab], Awaitable[T]], count: int = 1, *, seconds: float = 60.0, memory_bytes: int = 1 << 30
) -> T:
    async def main() -> T:
        lab = Lab(count, seconds=seconds, memory_bytes=memory_bytes)
        await lab.pool.start()
        try:
            return await work(lab)
        finally:
            pids = lab.pool.pids
            await lab.pool.close()
            for pid in pids:
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)

    return asyncio.run(main())


def threaded(threads: ThreadPoolExecutor) -> ThreadedDecoders:
    return ThreadedDecoders(FairExecutor(threads, 1, memory_bytes=1 << 30), Limits(MAX_PIXELS, 60.0, SMALL_BYTES))


def test_both_ways_give_what_the_library_gives() -> None:
    photos = [encoded(), encoded("PNG", mode="RGBA"), encoded("TIFF", mode="L"), encoded("WEBP", (300, 2))]

    async def work(lab: Lab) -> None:
        with ThreadPoolExecutor(1) as pool:
            for data in photos:
                for decoders in (lab.decoders, threaded(pool)):
                    decoded = await decoders.square(data, SPEC, TURN)
                    photo = open_photo(data)
                    expected = np.asarray(photo)
                    assert torch.equal(decoded.pixels, preprocess(photo, SPEC))
                    assert (decoded.width, decoded.height) == photo.size

                    async def look(pixels: np.ndarray, expected: np.ndarray = expected) -> int:
                        np.testing.assert_array_equal(pixels, expected)
                        pixels[:] = 0  # its own
                        return pixels.size

                    assert await decoders.pixels(data, TURN, look) == 3 * photo.width * photo.height

    run(work)


def test_squares_are_kept_as_long_as_somebody_holds_them() -> None:
    """One process, more squares than it lends: those that are held are never written to, nor gone with the process."""
    photos = [encoded(size=(64 + step, 48)) for step in range(2 * LENT_SQUARES)]
    expected = [preprocess(open_photo(data), SPEC) for data in photos]

    async def work(lab: Lab) -> list[torch.Tensor]:
        (process,) = lab.pool._living
        for data in photos:  # let go at once
            await lab.decoders.square(data, SPEC, TURN)
        assert len(process._free) + (process._own is not None) >= LENT_SQUARES - 1  # a task may still hold the last
        kept = [(await lab.decoders.square(data, SPEC, TURN)).pixels for data in photos]
        assert not process._free
        assert process._own is None
        await lab.decoders.pixels(encoded(size=(900, 900)), TURN, _look)
        return kept

    for kept, right in zip(run(work), expected, strict=True):
        assert torch.equal(kept, right)


async def _look(pixels: np.ndarray) -> None:
    pixels[:] = 0


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", EmptyBodyError, "0 bytes"),
        (b"hello", UnsupportedMediaError, "not an image"),
        (encoded()[:-300], BadImageError, "truncated or corrupt"),
        (encoded("PNG", (2001, 2000)), TooManyPixelsError, "the limit is 4000000"),
        (costly(300, 64), ImageTooCostlyError, "built to be slow to read"),
    ],
    ids=["empty", "no image", "cut", "large", "slow"],
)
def test_faults_are_the_photos_own(data: bytes, error: type[Exception], message: str) -> None:
    async def work(lab: Lab) -> None:
        before = lab.pool.pids
        with ThreadPoolExecutor(1) as pool:
            for decoders in (lab.decoders, threaded(pool)):
                with pytest.raises(error, match=message):
                    await decoders.square(data, SPEC, TURN)
        assert lab.pool.pids == before
        assert lab.losses == []

    run(work)


def test_a_photo_that_takes_too_long_is_ended_and_the_next_one_is_decoded() -> None:
    async def work(lab: Lab) -> list[str]:
        before = lab.pool.pids
        with pytest.raises(ImageTooCostlyError, match="more time or memory"):
            await lab.decoders.square(costly(), SPEC, TURN)
        assert (await lab.decoders.square(encoded(), SPEC, TURN)).width == 64
        assert lab.pool.pids != before
        return lab.losses

    assert run(work, seconds=0.02) == ["costly"]


def test_a_process_that_something_else_ended_costs_no_photo() -> None:
    async def work(lab: Lab) -> list[str]:
        os.kill(lab.pool.pids[0], signal.SIGKILL)
        assert (await lab.decoders.square(encoded(), SPEC, TURN)).width == 64
        return lab.losses

    assert run(work) == ["died"]


def test_whatever_ended_idle_processes_costs_no_photo() -> None:
    async def work(lab: Lab) -> list[str]:
        for pid in lab.pool.pids:
            os.kill(pid, signal.SIGKILL)
        while any(process.is_alive() for process in lab.pool._living):
            await asyncio.sleep(0.01)
        photos = [lab.decoders.square(encoded(), SPEC, TURN) for _ in range(4)]
        assert [decoded.width for decoded in await asyncio.gather(*photos)] == [64] * 4
        return lab.losses

    assert run(work, 3) == ["died"] * 3


def test_an_idle_process_that_ends_is_replaced_before_anybody_asks() -> None:
    async def work(lab: Lab) -> list[str]:
        (before,) = lab.pool.pids
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(30):
            while lab.pool.pids in ([before], []):
                await asyncio.sleep(0.01)
        return lab.losses

    assert run(work) == ["died"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forbid that shared memory is cut")
def test_shared_memory_cannot_be_cut() -> None:
    async def work(lab: Lab) -> None:
        (process,) = lab.pool._living
        with pytest.raises(PermissionError):
            os.truncate(process._memory, 0)

    run(work)


def test_a_process_that_hangs_is_ended_at_the_deadline() -> None:
    async def work(lab: Lab) -> list[str]:
        os.kill(lab.pool.pids[0], signal.SIGSTOP)
        with pytest.raises(DeadlineError, match="while the image was decoded"):
            await lab.decoders.square(encoded(), SPEC, in_seconds(0.3))
        assert (await lab.decoders.square(encoded(), SPEC, TURN)).width == 64
        return lab.losses

    assert run(work) == ["late"]


def test_one_hangs_and_the_others_go_on() -> None:
    async def work(lab: Lab) -> None:
        stopped = lab.pool.pids[0]
        os.kill(stopped, signal.SIGSTOP)
        photos = [asyncio.create_task(lab.decoders.square(encoded(), SPEC, in_seconds(20))) for _ in range(6)]
        done, waiting = await asyncio.wait(photos, timeout=10)
        assert len(done) >= 5
        assert all(task.result().width == 64 for task in done)
        os.kill(stopped, signal.SIGCONT)
        assert all(decoded.width == 64 for decoded in await asyncio.gather(*waiting))

    run(work, 2)


def test_large_photos_take_turns_and_small_ones_pass() -> None:
    """A photo that needs more than every photo may take waits for memory, not in a process."""
    large = encoded("PNG", (2000, 1900), progressive=True)

    async def work(lab: Lab) -> None:
        photos = [lab.decoders.square(data, SPEC, TURN) for data in (large, large, encoded(), large)]
        assert [decoded.width for decoded in await asyncio.gather(*photos)] == [2000, 2000, 64, 2000]
        assert lab.losses == []

    run(work, 2, memory_bytes=1)


def test_a_photo_that_needs_more_than_any_may_is_refused() -> None:
    async def work(lab: Lab) -> None:
        modest = IsolatedDecoders(lab.pool, FairSlots(1, memory_bytes=1), most_bytes=100 << 20)
        with pytest.raises(ImageTooCostlyError, match="MiB of memory to decode, the limit is 100"):
            await modest.square(encoded("WEBP", (2000, 2000)), SPEC, TURN)
        assert (await modest.square(encoded("WEBP", (200, 190)), SPEC, TURN)).width == 200

    run(work)


def test_a_program_that_does_not_start_is_said() -> None:
    async def main() -> None:
        pool = DecoderPool(Plan(Limits(1, 1.0, 1), 1024, 32, sys.executable), 1, lambda _: None)  # type: ignore[arg-type]
        with pytest.raises(StartupError, match="--decoding threads"):
            await pool.start()
        await pool.close()

    asyncio.run(main())
