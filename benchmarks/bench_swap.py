"""What many adapter sets cost: throughput in rotation, p99 beside churn, first answers of cold sets. All as ratios.

    python -m benchmarks.bench_swap [--quick] [--only uniform16,uniform64_room16,churn_p99,cold] [--tasks semseg]

Windows of one and of many sets alternate in one run. Throughput: closed loop with as many clients as keep the engine
busy. Latency: open loop, Poisson, from the scheduled time. Rounds in which others took more than a little of the
machine do not count and are repeated. Server and generator are processes of their own on loopback.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import save, show
from benchmarks.lab import Lab
from benchmarks.servers import Server, room_for, serve
from benchmarks.sets import Weights, make_weights, variation, write_photo
from mtlora.bench.http_client import Client
from mtlora.bench.load import Plan, Report, Stream, Target, quantile

CLIENTS = 8
HOT_SHARE = 0.4  # of the throughput of one set: hot traffic beside churn
PHOTO_SIZE = (640, 480)
ROOM = 16.5  # sets
CELLS = ("uniform16", "uniform64_room16", "churn_p99", "cold")


@dataclass(slots=True)
class Bench:
    """What the cells share."""

    root: Path
    weights: Weights
    photo: Path
    tasks: str
    rounds: int
    seconds: float
    lab: Lab = field(default_factory=Lab)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Of a prediction, without the set."""
        return f"/predict?tasks={self.tasks}&" if self.tasks else "/predict?"

    def server(self, name: str, **flags: int) -> Server:
        """A server with a store of its own."""
        return serve(self.weights, self.root / name, **flags)

    def throughput(self, server: Server, sets: int) -> float:
        """Answers a second of the first `sets` sets in rotation, closed loop."""
        targets = tuple(Target(server.url, f"{self.path}adapter={name}") for name in self.weights.names[:sets])
        report = self.lab.load(Plan(str(self.photo), (Stream("all", targets, clients=CLIENTS),), self.seconds))["all"]
        _require_all(report.failures)
        return report.throughput

    def rotation(self, server: Server, sets: int) -> float:
        """Throughput of many sets over that of one, windows alternating; the median of the rounds."""
        asyncio.run(_once(server, self.photo, [f"{self.path}adapter={name}" for name in self.weights.names[:sets]]))
        rounds = self.lab.rounds(self.rounds, lambda _: (self.throughput(server, 1), self.throughput(server, sets)))
        self.details[f"uniform{sets}"] = [{"one_rps": one, "many_rps": many} for one, many in rounds]
        return statistics.median(many / one for one, many in rounds)


def uniform16(bench: Bench) -> float:
    """16 sets in rotation, all on the device."""
    with bench.server("uniform16") as server:
        ratio = bench.rotation(server, 16)
        resident = server.metrics()['mtlora_adapters{tier="device"}']
    if resident < 16:
        raise RuntimeError(f"only {resident} of 16 sets were on the device")
    return ratio


def uniform64_room16(bench: Bench) -> float:
    """64 sets in rotation, room for 16: in this order the one needed next is always the one that went."""
    room = {"device_bytes": room_for(ROOM, bench.weights, bench.root)["device_bytes"]}
    with bench.server("uniform64", **room) as server:
        ratio = bench.rotation(server, 64)
        evictions = server.metrics()['mtlora_adapter_evictions_total{reason="room",tier="device"}']
    if evictions < 64 - 16:
        raise RuntimeError(f"only {evictions} evictions: there was room for more than 16 sets")
    bench.details["uniform64"].append({"evictions": evictions})
    return ratio


def churn_p99(bench: Bench) -> float:
    """p99 of hot traffic beside a client that changes sets without pause, over quiet p99; windows pooled."""
    files = []
    for seed in (1001, 1002):
        files.append(bench.root / f"churned-{seed}.safetensors")
        source = bench.weights.folder / "default.safetensors"
        files[-1].write_bytes(variation(source, seed, bench.root))
    with bench.server("churn") as server:
        rate = HOT_SHARE * bench.throughput(server, 1)
        beside = (sys.executable, "-m", "benchmarks.churn_client", server.url, *map(str, files))
        stream = Stream("hot", (Target(server.url, f"{bench.path}adapter=default"),), rate)

        def both(number: int) -> dict[str, Report]:
            plans = {
                kind: Plan(str(bench.photo), (stream,), 2 * bench.seconds, seed=number, beside=command)
                for kind, command in (("quiet", ()), ("churn", beside))
            }
            return {kind: bench.lab.load(plan) for kind, plan in plans.items()}

        rounds = bench.lab.rounds(bench.rounds, both)
        pooled: dict[str, list[float]] = {"quiet": [], "churn": []}
        lag: list[float] = []
        for kind, report in (pair for one in rounds for pair in one.items()):
            _require_all(report["hot"].failures)
            pooled[kind] += report["hot"].latency_ms
            lag += report.lag_ms
        uploads = server.metrics()['mtlora_requests_total{code="201",format="other"}']
    tails = {kind: {q: quantile(v, q) for q in (0.5, 0.95, 0.99)} for kind, v in pooled.items()}
    bench.details["churn_p99"] = {
        "rate_rps": rate, "uploads": uploads, "latency_ms": tails, "samples": {k: len(v) for k, v in pooled.items()},
        "generator_lag_p99_ms": quantile(lag, 0.99),
    }  # fmt: skip
    return tails["churn"][0.99] / tails["quiet"][0.99]


def cold(bench: Bench) -> float:
    """First answer of a set that is on disk only (in the page cache) over the second; medians.

    The first round is told apart: it is the first load of each file since the server started, which checks it whole.
    """
    with bench.server("cold") as server:
        asyncio.run(_once(server, bench.photo, [f"{bench.path}adapter=default"]))
        names = bench.weights.names[1:16]
        plan = {"url": server.url, "photo": str(bench.photo), "names": names, "path": bench.path}
        first = bench.lab.run("benchmarks.cold_client", [], plan)
        rounds = bench.lab.rounds(bench.rounds, lambda _: bench.lab.run("benchmarks.cold_client", [], plan))
        times = {kind: [ms for one in rounds for ms in one[kind]] for kind in ("cold_ms", "hot_ms")}
        times["first_ms"] = first["cold_ms"]
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    bench.details["cold"] = {"median": medians, "samples": len(times["cold_ms"])}
    return medians["cold_ms"] / medians["hot_ms"]


RUN: dict[str, Callable[[Bench], float]] = {
    "uniform16": uniform16, "uniform64_room16": uniform64_room16, "churn_p99": churn_p99, "cold": cold,
}  # fmt: skip


async def _once(server: Server, photo: Path, paths: list[str]) -> None:
    """One answer of each, so that what is measured is not the first."""
    async with Client(server.url) as client:
        for path in paths:
            reply = await client.request("POST", path, photo.read_bytes(), {"Content-Type": "image/jpeg"})
            if reply.status != 200:
                raise RuntimeError(f"{path}: {reply.status} {reply.body[:300]!r}")


def _require_all(failures: dict[str, int]) -> None:
    if failures:
        raise RuntimeError(f"not every request was answered with 200: {dict(failures)}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short windows: shows that it works, not how well")
    parser.add_argument("--only", default=",".join(CELLS), help="comma list of cells")
    parser.add_argument("--tasks", default="", help="comma list; default: all four")
    parser.add_argument("--backbone", default="bundled", help="bundled or tiny448")
    parser.add_argument("--rounds", type=int)
    return parser.parse_args()


def main() -> None:
    options = _parse()
    cells = options.only.split(",")
    if unknown := set(cells) - set(CELLS):
        raise SystemExit(f"no cells {sorted(unknown)}; there are {', '.join(CELLS)}")
    rounds, seconds = (1, 6.0) if options.quick else (options.rounds or 5, 12.0)
    figures: dict[str, float] = {}
    for cell in cells:
        with tempfile.TemporaryDirectory(prefix="mtlora-swap-") as folder:
            root = Path(folder)
            weights = make_weights(root, 64 if cell == "uniform64_room16" else 16, options.backbone)
            photo = write_photo(root / "photo.jpg", PHOTO_SIZE)
            bench = Bench(root, weights, photo, options.tasks, rounds, seconds)
            figures[f"swap.{cell}"] = RUN[cell](bench)
        name = f"swap_{cell}{'_quick' if options.quick else ''}"
        found = {f"swap.{cell}": figures[f"swap.{cell}"]}
        save(name, found, options=vars(options), details=bench.details, other_load=bench.lab.summary())
        bench.lab.warn()
    show(figures)


if __name__ == "__main__":
    main()
