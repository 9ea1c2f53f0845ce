"""Soak: churn for minutes, two kill -9 with restarts, and at the end the question whether every word was kept.

    python -m benchmarks.soak [--minutes 30] [--weights bundled|random] [--owners 3] [--users 3] [--pace 0.1]

Owners upload, activate, roll back, delete, load, unload and pin sets in a memory with room for a few; they send files
that must be refused and leave in the middle of uploads. Users ask for predictions, check every pixel against the
revision that answered and that revision against what its owner was told, send broken photos and photos that are built
to cost, leave, and set hopeless deadlines.

Fails on: a 5xx (but 503 while restarting), a wrong or impossible answer, anything acknowledged that is gone, a counter
that fell, memory that grows, a file left over, an error in the log, a queue that does not empty, an exit status but 0.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.churn.expected import Content, content_of, nearest_others
from benchmarks.churn.material import Material, bundled_material, random_material
from benchmarks.churn.owners import Owner
from benchmarks.churn.users import User, fixed
from benchmarks.churn.watch import Life, complaints, leftovers, scrape, watch
from benchmarks.churn.world import World
from benchmarks.harness import save
from benchmarks.servers import free_port, serve
from mtlora.bench.http_client import Client
from mtlora.weights.backbone import load_backbone

KILLS_AFTER = (0.1, 0.1)  # of the time, each counted from ready: a state worth killing, then most time for memory
APART = 3.0  # sets must differ by so many times what rounding may make
SETTLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """One soak."""

    seconds: float
    owners: int = 3
    users: int = 3
    pace_s: float = 0.1
    kills: tuple[float, ...] = KILLS_AFTER
    until: tuple[str, ...] = ()  # goes on past its time until each of these has happened


@dataclass(slots=True)
class Result:
    """What came of it."""

    violations: list[str]
    counts: dict[str, int]
    lives: list[dict[str, Any]]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations


class Soak:
    """One server, its actors, its deaths."""

    def __init__(self, material: Material, root: Path, options: Options) -> None:
        self._material, self._options = material, options
        self._store = root / "store"
        self._port = free_port()
        self._lives: list[Life] = []
        client = Client(f"http://127.0.0.1:{self._port}", connections=options.owners + options.users + 4)
        self.world = World(client, material.photos, {}, options.pace_s)

    async def run(self) -> Result:
        """Start, churn, kill and restart, stop, look at everything."""
        backbone = load_backbone(self._material.weights.backbone)
        paths = [*self._material.uploads, *sorted(self._material.weights.folder.glob("*.safetensors"))]
        contents = [await asyncio.to_thread(content_of, path, backbone, self._material.photos) for path in paths]
        if (apart := nearest_others(contents)) < APART:
            raise RuntimeError(f"the sets to upload answer too much alike to be told apart: {apart:.1f}, need {APART}")
        offered = contents[: len(self._material.uploads)]
        try:
            await self._start()
            await self._churn(offered, contents[len(offered) :])
            await self._end()
        finally:
            if self._lives:
                self._lives[-1].server.kill()
        lives = [
            {"ready_s": round(life.ready_s, 2), **asdict(life.trend()), "growth": life.trend().growth}
            for life in self._lives
        ]
        return Result(self.world.violations, dict(self.world.counts), lives)

    async def _churn(self, offered: list[Content], bundled: list[Content]) -> None:
        world, options = self.world, self._options
        world.contents |= {content.digest: content for content in (*offered, *bundled)}
        for content, path in zip(bundled, sorted(self._material.weights.folder.glob("*.safetensors")), strict=True):
            world.ledgers[path.stem] = fixed(path.stem, content.digest)
        owners = [Owner(world, i, offered, self._material.bad_files) for i in range(options.owners)]
        actors: list[Callable[[], Coroutine[Any, Any, None]]] = [owner.run for owner in owners]
        actors += [User(world, i).run for i in range(options.users)]
        async with asyncio.TaskGroup() as group:
            for actor in actors:
                group.create_task(actor())
            watcher = group.create_task(watch(world, self._lives))
            for share in (*options.kills, None):
                await asyncio.sleep(options.seconds * (1 - sum(options.kills) if share is None else share))
                if share is not None:
                    await self._crash()
            while not all(world.counts[happened] for happened in options.until):
                await asyncio.sleep(0.05)
            world.stopping = True
            watcher.cancel()
        for owner in owners:
            await owner.check_all()

    async def _start(self) -> None:
        server = serve(self._material.weights, self._store, port=self._port, **self._material.flags)
        life = Life(server)
        self._lives.append(life)
        await asyncio.to_thread(server.wait_ready)
        life.ready_s = time.monotonic() - life.began
        life.sample()
        self.world.up.set()

    async def _crash(self) -> None:
        """kill -9 and restart; what happens between the two times is excused."""
        world = self.world
        world.up.clear()
        begin = time.monotonic()
        world.outages.append((begin, float("inf")))
        await asyncio.to_thread(self._lives[-1].server.kill)
        world.counts["kills"] += 1
        await self._start()
        world.outages[-1] = (begin, time.monotonic())

    async def _end(self) -> None:
        world, life = self.world, self._lives[-1]
        named = await self._wait_for_rest(life)
        for stray in leftovers(self._store, named):
            world.violated(stray)
        world.client.forget_connections()
        status = await asyncio.to_thread(life.server.stop)
        if status != 0:
            world.violated(f"SIGTERM ended the server with status {status}")
        for line in complaints(life.server.log):
            world.violated(f"in the log: {line}")
        for one in self._lives:
            if not one.trend().flat:
                world.violated(f"memory grew: {one.trend()}")

    async def _wait_for_rest(self, life: Life) -> set[str]:
        """Files that the server names, once it is at rest: nothing waits, nothing runs, deletions are through."""
        world = self.world
        end = time.monotonic() + SETTLE_S
        while True:
            values = await scrape(world, life)
            reply, _, _ = await world.ask("GET", "/adapters")
            sets = json.loads(reply.body)["adapters"]
            named = {f"{r['revision']}-{r['digest']}" for s in sets if not s["bundled"] for r in s["revisions"]}
            busy = {
                "queue": values["mtlora_queue_images"] != 0,
                "requests": values["mtlora_inflight_requests"] != 1,  # this scrape itself
                "files": bool(leftovers(self._store, named)),
                "labels": not _labels(values) <= {*(s["name"] for s in sets), "other"},
            }
            if not any(busy.values()):
                return named
            if time.monotonic() > end:
                for what in (name for name, still in busy.items() if still):
                    world.violated(f"{what}: not at rest {SETTLE_S:g} s after the last request: {_rest(values)}")
                return named
            await asyncio.sleep(0.2)


def _labels(values: dict[str, float]) -> set[str]:
    begin = 'mtlora_images_total{adapter="'
    return {series.removeprefix(begin).removesuffix('"}') for series in values if series.startswith(begin)}


def _rest(values: dict[str, float]) -> dict[str, object]:
    shown = ("mtlora_queue_images", "mtlora_inflight_requests")
    return {**{name: values[name] for name in shown}, "labels": sorted(_labels(values))}


def soak(material: Material, root: Path, options: Options) -> Result:
    """Run one and return what came of it."""

    async def work() -> Result:
        return await Soak(material, root, options).run()

    return asyncio.run(work())


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--weights", choices=["bundled", "random"], default="bundled", help="random: tiny, fast")
    parser.add_argument("--owners", type=int, default=3, help="clients that change sets")
    parser.add_argument("--users", type=int, default=3, help="clients that predict")
    parser.add_argument("--pace", type=float, default=0.1, help="mean pause between two steps of a client, s")
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    return parser.parse_args()


def main() -> None:
    given = _parse()
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mtlora-soak-")))
        material = (bundled_material if given.weights == "bundled" else random_material)(root)
        options = Options(given.minutes * 60, given.owners, given.users, given.pace)
        result = soak(material, root, options)
    for name, count in sorted(result.counts.items()):
        print(f"  {name:32} {count}")
    for life in result.lives:
        sizes = f"{life['first_mib']:.0f} -> {life['last_mib']:.0f} MiB in {life['seconds']:.0f} s"
        slope = f"{life['mib_per_hour']:+.0f} MiB/h, {life['open_files']} open files"
        print(f"  ready in {life['ready_s']:.1f} s; memory after warm-up: {sizes}, {slope}")
    for violation in result.violations:
        print(f"VIOLATION {violation}")
    figures = {"soak.violations": result.counts.get("violations", 0), "soak.memory_growth": result.lives[-1]["growth"]}
    if given.save:
        name = f"soak_{given.weights}_{given.minutes:g}min"
        save(name, figures, options=vars(given), counts=result.counts, lives=result.lives)
    sys.exit(0 if result.passed else 1)


if __name__ == "__main__":
    main()
