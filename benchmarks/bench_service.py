"""The service beside three other ways to serve 16 sets, and what HTTP and photos cost around the engine. All as ratios.

    python -m benchmarks.bench_service [--quick] [--only vs_swap,…]

vs_swap, vs_processes, vs_litserve: throughput (closed loop) of ours over a plain FastAPI server that swaps tensors per
request, over one process per set, over LitServe; and p99 at the same rate (open loop), ours over theirs. Both systems
are up at the same time, windows alternate, and their answers are compared first.
image_share, overhead, rps_over_engine: four tasks of a Swin-T at 448 px on a 1280x960 JPEG.
starvation: p95 of quiet sets while one set gets 20 times their rate, over their p95 alone.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import save, show
from benchmarks.lab import Lab
from benchmarks.servers import Server, serve
from benchmarks.sets import TINY448, Weights, make_weights, write_photo
from benchmarks.systems import System, largest_difference, system
from mtlora.bench.load import Plan, Report, Stream, Target, quantile

CLIENTS = 8
SETS = 16
CHECKED_SETS = 3
SHARE_OF_SLOWER = 0.6  # of the slower system's throughput: the rate at which tails are compared
SMALL, LARGE = (640, 480), (1280, 960)
QUIET_SETS = 4
TIMES_MORE = 20.0
FLOOD = 1.4  # of the throughput: the rate of the greedy set, which makes the others' 0.07 each
CELLS = ("vs_swap", "vs_processes", "vs_litserve", "image_share", "rps_over_engine", "starvation")

Figures = dict[str, float]


@dataclass(slots=True)
class Bench:
    """What the cells share."""

    root: Path
    rounds: int
    seconds: float
    lab: Lab = field(default_factory=Lab)
    details: dict[str, Any] = field(default_factory=dict)

    def weights(self, count: int, backbone: str = "bundled") -> Weights:
        """A backbone and so many sets."""
        return make_weights(self.root / f"{backbone}-{count}", count, backbone)

    def photo(self, size: tuple[int, int]) -> Path:
        """A photo of that size."""
        return write_photo(self.root / f"{size[0]}.jpg", size)


def versus(baseline: str, bench: Bench) -> Figures:
    """Throughput of 16 sets and p99 at one rate, ours over theirs."""
    weights, photo = bench.weights(SETS), bench.photo(SMALL)
    with (
        system("ours", weights, photo, bench.root / "a") as ours,
        system(baseline, weights, photo, bench.root / "b") as theirs,
    ):
        apart = largest_difference(ours, theirs, weights.names[:CHECKED_SETS], photo)
        if apart > 1:
            raise RuntimeError(f"{baseline} answers otherwise: {apart:.1f} times what rounding may make")
        full = bench.lab.rounds(bench.rounds, lambda _: (_window(bench, ours, photo), _window(bench, theirs, photo)))
        throughput = [(a["all"].throughput, b["all"].throughput) for a, b in full]
        rate = SHARE_OF_SLOWER * min(statistics.median(column) for column in zip(*throughput, strict=True))
        tails: dict[str, list[float]] = {"ours": [], baseline: []}
        at_rate = bench.lab.rounds(
            bench.rounds, lambda number: {one.name: _window(bench, one, photo, rate, number) for one in (ours, theirs)}
        )
        for name, report in (pair for one in at_rate for pair in one.items()):
            tails[name] += report["all"].latency_ms
        memory = {one.name: one.memory_bytes() for one in (ours, theirs)}
    p99 = {name: quantile(values, 0.99) for name, values in tails.items()}
    bench.details[f"vs_{baseline}"] = {
        "throughput_rps": throughput, "rate_rps": rate, "p99_ms": p99, "memory_bytes": memory, "answers_apart": apart,
        "p50_ms": {name: quantile(values, 0.5) for name, values in tails.items()},
        "samples": {name: len(values) for name, values in tails.items()},
    }  # fmt: skip
    ratio = statistics.median(a / b for a, b in throughput)
    return {f"service.vs_{baseline}": ratio, f"service.vs_{baseline}_p99": p99["ours"] / p99[baseline]}


def image_share(bench: Bench) -> Figures:
    """Decoding, resizing and encoding over the whole answer; and all that is not the engine over the engine."""
    photo = bench.photo(LARGE)
    figures: Figures = {}
    for backbone, suffix in ((TINY448, ""), ("bundled", "_6m")):
        weights = bench.weights(1, backbone)
        with serve(weights, bench.root / f"image-share-{backbone}") as server:
            plan = {"url": server.url, "path": "/predict", "photo": str(photo), "seconds": bench.seconds}
            runs = bench.lab.rounds(bench.rounds, partial(_stages, bench, plan))
        answers = [ms for run in runs for ms in run["answer_ms"]]
        stages = [timings for run in runs for timings in run["timings_ms"]]
        images = [s["decode"] + s["encode"] for s in stages]
        share = statistics.median(image / answer for image, answer in zip(images, answers, strict=True))
        beyond = statistics.median((a - s["forward"]) / s["forward"] for a, s in zip(answers, stages, strict=True))
        figures |= {f"service.image_share{suffix}": share, f"service.overhead{suffix}": beyond}
        medians = {name: statistics.median(s[name] for s in stages) for name in stages[0]}
        bench.details[f"image_share{suffix}"] = {
            "answer_ms": statistics.median(answers), "timings_ms": medians, "samples": len(answers)
        }  # fmt: skip
    return figures


def rps_over_engine(bench: Bench) -> Figures:
    """Answers a second at saturation over images a second of the engine alone, windows alternating."""
    weights, photo = bench.weights(1, TINY448), bench.photo(LARGE)
    engine = {"backbone": str(weights.backbone), "set": str(weights.folder / "default.safetensors"), "threads": 0}
    plan = {**engine, "images": 1, "seconds": bench.seconds}
    with serve(weights, bench.root / "rps") as server:

        def both(_: int) -> tuple[float, float]:
            rps = _saturated(bench, server, photo)
            return rps, bench.lab.run("benchmarks.engine_client", [], plan)["images_per_s"]

        rounds = bench.lab.rounds(bench.rounds, both)
        sizes = server.metrics()
    bench.details["rps_over_engine"] = {
        "rounds": rounds, "mean_batch": sizes["mtlora_batch_images_sum"] / sizes["mtlora_batch_images_count"]
    }  # fmt: skip
    return {"service.rps_over_engine": statistics.median(rps / alone for rps, alone in rounds)}


def starvation(bench: Bench) -> Figures:
    """p95 of four quiet sets beside a set that asks for more than the machine can do, over their p95 alone."""
    weights, photo = bench.weights(SETS), bench.photo(SMALL)
    with system("ours", weights, photo, bench.root / "starvation") as ours:
        capacity = statistics.median(_window(bench, ours, photo)["all"].throughput for _ in range(bench.rounds))
        greedy, *quiet = (ours.targets[name] for name in weights.names[: QUIET_SETS + 1])
        flood = FLOOD * capacity
        calm = Stream("quiet", tuple(quiet), QUIET_SETS * flood / TIMES_MORE)
        flooding = Stream("greedy", (greedy,), flood, clients=256)
        kinds = {"alone": (calm,), "beside": (calm, flooding)}
        rounds = bench.lab.rounds(
            bench.rounds,
            lambda number: {
                kind: bench.lab.load(Plan(str(photo), streams, 2 * bench.seconds, seed=number))
                for kind, streams in kinds.items()
            },
        )
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        failures: dict[str, Any] = {}
        for number, (kind, report) in ((n, pair) for n, one in enumerate(rounds) for pair in one.items()):
            found[kind] += report["quiet"].latency_ms
            failures[f"{kind} {number}"] = {name: dict(s.failures) for name, s in report.streams.items()}
    tails = {kind: {str(q): quantile(values, q) for q in (0.5, 0.95, 0.99)} for kind, values in found.items()}
    refused = sum(n for window in failures.values() for n in window["quiet"].values())
    bench.details["starvation"] = {
        "capacity_rps": capacity, "quiet_rps": calm.rate, "greedy_rps": flood, "latency_ms": tails,
        "samples": {kind: len(values) for kind, values in found.items()}, "failures": failures,
    }  # fmt: skip
    asked = refused + sum(map(len, found.values()))
    return {
        "service.starvation": tails["beside"]["0.95"] / tails["alone"]["0.95"],
        "service.starvation_refused": refused / asked,
    }


RUN: dict[str, Callable[[Bench], Figures]] = {
    **{f"vs_{name}": partial(versus, name) for name in ("swap", "processes", "litserve")},
    "image_share": image_share,
    "rps_over_engine": rps_over_engine,
    "starvation": starvation,
}


def _window(bench: Bench, one: System, photo: Path, rate: float = 0.0, seed: int = 0) -> Report:
    """All sets at random: saturated, or at a rate."""
    stream = Stream("all", tuple(one.targets.values()), rate, clients=64 if rate else CLIENTS, pick="random")
    report = bench.lab.load(Plan(str(photo), (stream,), bench.seconds * (2 if rate else 1), seed=seed))
    if report["all"].failures:
        raise RuntimeError(f"{one.name}: not every request was answered with 200: {dict(report['all'].failures)}")
    return report


def _stages(bench: Bench, plan: dict[str, Any], _: int) -> Any:
    return bench.lab.run("benchmarks.stages_client", [], plan)


def _saturated(bench: Bench, server: Server, photo: Path) -> float:
    stream = Stream("all", (Target(server.url),), clients=4)
    report = bench.lab.load(Plan(str(photo), (stream,), bench.seconds))["all"]
    if report.failures:
        raise RuntimeError(f"not every request was answered with 200: {dict(report.failures)}")
    return report.throughput


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short windows: shows that it works, not how well")
    parser.add_argument("--only", default=",".join(CELLS), help="comma list of cells")
    parser.add_argument("--rounds", type=int)
    return parser.parse_args()


def main() -> None:
    options = _parse()
    cells = options.only.split(",")
    if unknown := set(cells) - set(CELLS):
        raise SystemExit(f"no cells {sorted(unknown)}; there are {', '.join(CELLS)}")
    rounds, seconds = (1, 6.0) if options.quick else (options.rounds or 5, 12.0)
    figures: Figures = {}
    for cell in cells:
        with tempfile.TemporaryDirectory(prefix="mtlora-service-") as folder:
            bench = Bench(Path(folder), rounds, seconds)
            found = RUN[cell](bench)
        figures |= found
        name = f"service_{cell}{'_quick' if options.quick else ''}"
        save(name, found, rounds=rounds, seconds=seconds, details=bench.details, other_load=bench.lab.summary())
        bench.lab.warn()
    show(figures)


if __name__ == "__main__":
    main()
