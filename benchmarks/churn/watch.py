"""The server seen from outside: its metrics every second, its memory with that of its decoders, its files, its log."""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.churn.world import OutageError, World
from benchmarks.servers import Server, parse_metrics

BY_SET = ("mtlora_images_total", "mtlora_images_computed_total")  # counters by adapter set
RISING = ("_total", "_count", "_sum", "_bucket")
WARM_UP_SHARE = 0.3  # of a process's life: caches, the allocator's arenas
SHORTEST_TREND_S = 60.0  # a shorter time says nothing about growth
MOST_GROWTH = 1.10  # median of the last quarter over the first, after warm-up
SHORTEST_SLOPE_S = 300.0  # in a shorter time a few MiB of one arena look like hundreds an hour
MOST_GROWTH_MIB_PER_HOUR = 100.0
MIB = 2**20


@dataclass(slots=True)
class Life:
    """One server process: what was sampled of it."""

    server: Server
    began: float = field(default_factory=time.monotonic)
    ready_s: float = 0.0  # how long it took to start
    seconds: list[float] = field(default_factory=list)  # since its start
    rss_mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)  # open descriptors
    threads: list[int] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)  # the last scrape

    def sample(self) -> None:
        """Take one sample from /proc."""
        process = Path(f"/proc/{self.server.process.pid}")
        self.rss_mib.append(self.server.family_rss_bytes() / MIB)
        self.files.append(sum(1 for _ in (process / "fd").iterdir()))
        self.threads.append(sum(1 for _ in (process / "task").iterdir()))
        self.seconds.append(time.monotonic() - self.began)

    def trend(self) -> "Trend":
        """How memory went after warm-up."""
        begin = int(len(self.rss_mib) * WARM_UP_SHARE)
        times, sizes = self.seconds[begin:], self.rss_mib[begin:]
        quarter = max(1, len(sizes) // 4)
        first, last = statistics.median(sizes[:quarter]), statistics.median(sizes[-quarter:])
        slope = statistics.linear_regression(times, sizes).slope if len(sizes) > 1 else 0.0
        watched = times[-1] - times[0] if times else 0.0
        return Trend(watched, first, last, slope * 3600, self.files[-1], self.threads[-1])


@dataclass(frozen=True, slots=True)
class Trend:
    """Memory after warm-up: medians of the first and last quarter, and a fitted line."""

    seconds: float
    first_mib: float
    last_mib: float
    mib_per_hour: float
    open_files: int
    threads: int

    @property
    def growth(self) -> float:
        """Last over first; 1 where a life was too short to be looked at."""
        return self.last_mib / self.first_mib if self.first_mib else 1.0

    @property
    def flat(self) -> bool:
        """Whether memory stayed; true as well where the time was too short to tell."""
        if self.seconds < SHORTEST_TREND_S:
            return True
        rising = self.seconds >= SHORTEST_SLOPE_S and self.mib_per_hour > MOST_GROWTH_MIB_PER_HOUR
        return self.growth <= MOST_GROWTH and not rising


async def watch(world: World, lives: list[Life], interval_s: float = 1.0) -> None:
    """Sample the newest process until told to stop."""
    while not world.stopping:
        await asyncio.sleep(interval_s)
        if world.up.is_set():
            life = lives[-1]
            try:
                life.sample()
                await scrape(world, life)
            except (OutageError, FileNotFoundError, ProcessLookupError, RuntimeError):
                world.counts["samples lost to a restart"] += 1


async def scrape(world: World, life: Life) -> dict[str, float]:
    """The metrics now; a counter that fell is a violation."""
    reply, _, _ = await world.ask("GET", "/metrics")
    values = parse_metrics(reply.body.decode())
    # A deleted set's label goes, its count moves to `other`; if the name comes back it starts anew: only the sum rises.
    for name in BY_SET:
        parts = (value for series, value in values.items() if series.startswith(f"{name}{{"))
        values[name] = round(sum(parts), 6)  # floats may add up a little less in another order
    for series, before in life.values.items():
        own = series.partition("{")[0] in BY_SET and "{" in series
        if series.partition("{")[0].endswith(RISING) and not own and values.get(series, 0.0) < before:
            world.violated(f"the counter {series} fell from {before} to {values.get(series)}")
    life.values = values
    return values


def leftovers(store: Path, named: set[str]) -> list[str]:
    """Files of a store that should not be there; named: REVISION-DIGEST of the revisions that the server lists."""
    strays = [
        p for p in store.rglob("*") if p.is_file() and p.name not in {"lock", "generation", "reserve", "state.json"}
    ]
    strays = [p for p in strays if not (p.suffix == ".safetensors" and p.stem in named)]
    missing = named - {p.stem for p in store.rglob("*.safetensors")}
    return [f"left over: {p.relative_to(store)}" for p in strays] + [f"missing: {file}" for file in missing]


def complaints(log: Path) -> list[str]:
    """Lines of a server's log that are errors, or that are no log lines at all (tracebacks)."""
    found = []
    for line in log.read_text().splitlines():
        try:
            level = json.loads(line)["level"]
        except (ValueError, TypeError, KeyError):
            level = "error"
        if level in {"error", "critical"}:
            found.append(line[:1000])
    return found
