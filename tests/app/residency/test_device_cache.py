"""DeviceCache: single flight, leases, failures, room, patience. Loads are functions the tests hold back."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from app.core.errors import AdapterLoadError
from app.core.names import AdapterRef
from app.core.tiers import Tier
from app.residency.device_cache import DeviceCache
from app.scheduling.background_throttle import BackgroundThrottle


@dataclass(frozen=True)
class Loaded:
    name: str
    cost_bytes: int


class Events:
    def __init__(self) -> None:
        self.evictions: Counter[str] = Counter()
        self.lookups: list[bool] = []

    def loaded(self, tier: Tier, seconds: float, ok: bool) -> None:
        raise AssertionError("loading is the loader's to tell")

    def evicted(self, tier: Tier, reason: str) -> None:
        assert tier is Tier.DEVICE
        self.evictions[reason] += 1

    def looked_up(self, hit: bool) -> None:
        self.lookups.append(hit)


def ref(name: str) -> AdapterRef:
    return AdapterRef(name, 1, name * 64)


class Bench:
    """A residency of sets that take 10 bytes each, with a switch to hold loads back and a list of names that fail."""

    def __init__(self, budget: int = 20, **options: Any) -> None:
        self.events = Events()
        self.go = threading.Event()
        self.go.set()
        self.failing: set[str] = set()
        self.loads: list[str] = []
        self.uses: list[str] = []
        self.pool = ThreadPoolExecutor(2)
        self.device_cache: DeviceCache[Loaded] = DeviceCache(
            self, self.pool, self.events, budget_bytes=budget, parallel_loads=2, **options
        )

    def load(self, wanted: AdapterRef) -> Loaded:
        self.loads.append(wanted.name)
        self.go.wait(5)
        if wanted.name in self.failing:
            raise RuntimeError("damaged")
        return Loaded(wanted.name, 10)

    def used(self, wanted: AdapterRef) -> None:
        self.uses.append(wanted.name)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario

    asyncio.run(bounded())


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0.002)


def test_one_load_however_many_wait() -> None:
    async def scenario() -> None:
        bench = Bench()
        leases = await asyncio.gather(*(bench.device_cache.acquire(ref("a")) for _ in range(50)))
        assert bench.loads == ["a"]
        assert all(lease.cold for lease in leases)
        assert bench.device_cache.leases() == 50
        again = await bench.device_cache.acquire(ref("a"))
        assert not again.cold
        assert bench.uses == ["a"]
        for lease in (*leases, again):
            lease.release()
            lease.release()  # a second release is nothing
        assert bench.device_cache.leases() == 0
        assert bench.device_cache.usage["a"].uses == 51

    run(scenario())


def test_leased_sets_stay_and_newcomers_wait_for_room() -> None:
    async def scenario() -> None:
        bench = Bench(budget=20)
        a, b = await bench.device_cache.acquire(ref("a")), await bench.device_cache.acquire(ref("b"))
        waiting = asyncio.create_task(bench.device_cache.acquire(ref("c")))
        await settle()
        assert not waiting.done()
        b.release()
        (await waiting).release()
        assert bench.events.evictions == {"room": 1}
        assert not bench.device_cache.is_resident(ref("b"))
        a.release()
        assert bench.device_cache.used_bytes == 20

    run(scenario())


def test_a_failed_load_costs_nobody_their_place_and_is_remembered() -> None:
    async def scenario() -> None:
        bench = Bench(budget=20, failure_ttl_s=60)
        for name in "ab":
            (await bench.device_cache.acquire(ref(name))).release()
        bench.failing.add("c")
        for _ in range(3):
            with pytest.raises(AdapterLoadError, match="c@1 could not be loaded: RuntimeError: damaged"):
                await bench.device_cache.acquire(ref("c"))
        assert bench.loads == ["a", "b", "c"]
        assert not bench.events.evictions
        assert [r.name for r in bench.device_cache.resident()] == ["a", "b"]

    run(scenario())


def test_a_failure_is_tried_again_after_its_time() -> None:
    async def scenario() -> None:
        bench = Bench(failure_ttl_s=0)
        bench.failing.add("a")
        with pytest.raises(AdapterLoadError):
            await bench.device_cache.acquire(ref("a"))
        bench.failing.clear()
        (await bench.device_cache.acquire(ref("a"))).release()

    run(scenario())


def test_a_set_larger_than_the_room_beside_pins_fails_at_once() -> None:
    async def scenario() -> None:
        bench = Bench(budget=15)
        await bench.device_cache.preload(ref("a"))
        bench.device_cache.pin([ref("a")])
        with pytest.raises(AdapterLoadError, match="needs 10 bytes; of 15 for all sets 10 are pinned"):
            await bench.device_cache.acquire(ref("b"))
        assert bench.device_cache.is_resident(ref("a"))

    run(scenario())


def test_a_request_given_up_while_loading_keeps_no_lease() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.go.clear()
        gone, stays = (asyncio.create_task(bench.device_cache.acquire(ref("a"))) for _ in range(2))
        await settle()
        gone.cancel()
        bench.go.set()
        lease = await stays
        assert gone.cancelled()
        assert bench.device_cache.leases() == 1
        lease.release()

    run(scenario())


def test_a_request_given_up_in_the_moment_of_success_keeps_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.go.clear()
        gone = asyncio.create_task(bench.device_cache.acquire(ref("a")))
        await settle()
        plain = bench.device_cache._hand_out

        def hand_out(which: AdapterRef, error: AdapterLoadError | None) -> None:
            plain(which, error)
            gone.cancel()

        monkeypatch.setattr(bench.device_cache, "_hand_out", hand_out)
        bench.go.set()
        await asyncio.wait({gone})
        assert bench.device_cache.leases() == 0

    run(scenario())


def test_dropping_waits_for_the_last_lease() -> None:
    async def scenario() -> None:
        bench = Bench()
        lease = await bench.device_cache.acquire(ref("a"))
        assert bench.device_cache.drop(ref("a"), "delete")
        assert bench.device_cache.is_resident(ref("a"))
        idle = asyncio.create_task(bench.device_cache.idle(ref("a")))
        await settle()
        assert not idle.done()
        lease.release()
        await idle
        assert bench.device_cache.used_bytes == 0
        assert bench.events.evictions == {"delete": 1}
        assert not bench.device_cache.drop(ref("a"), "delete")

    run(scenario())


def test_idle_waits_for_requests_that_resolved_the_set_but_have_not_asked_for_it_yet() -> None:
    async def scenario() -> None:
        bench = Bench()
        with bench.device_cache.using(ref("a")):
            idle = asyncio.create_task(bench.device_cache.idle(ref("a")))
            await settle()
            assert not idle.done()
        await idle

    run(scenario())


def test_sets_in_constant_use_do_not_keep_a_newcomer_out() -> None:
    async def scenario() -> None:
        bench = Bench(budget=10, patience_s=0.05)
        stop = False

        async def hot() -> None:
            while not stop:
                lease = await bench.device_cache.acquire(ref("a"))
                await asyncio.sleep(0.01)
                lease.release()

        users = []
        for _ in range(4):  # out of step, so that there is always a lease out
            users.append(asyncio.create_task(hot()))
            await asyncio.sleep(0.003)
        (await bench.device_cache.acquire(ref("b"))).release()
        stop = True
        await asyncio.gather(*users)

    run(scenario())


def test_an_explicit_load_waits_for_predictions_to_end_and_a_prediction_does_not_wait() -> None:
    async def scenario() -> None:
        throttle = BackgroundThrottle(patience_s=60)
        bench = Bench(throttle=throttle)
        with throttle.prediction():
            asked = asyncio.create_task(bench.device_cache.preload(ref("a")))
            (await bench.device_cache.acquire(ref("b"))).release()
            assert bench.loads == ["b"]
        await asked
        assert bench.loads == ["b", "a"]

    run(scenario())


def test_a_prediction_that_wants_the_set_meanwhile_loads_it_and_the_explicit_load_is_content() -> None:
    async def scenario() -> None:
        throttle = BackgroundThrottle(patience_s=60)
        bench = Bench(throttle=throttle)
        with throttle.prediction():
            asked = asyncio.create_task(bench.device_cache.preload(ref("a")))
            (await bench.device_cache.acquire(ref("a"))).release()
        await asked
        assert bench.loads == ["a"]

    run(scenario())
