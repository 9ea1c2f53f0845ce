"""The service on a GPU at saturation: answers a second, what they wait for, and what 16 sets in rotation cost.

    python -m benchmarks.bench_gpu_service [--seconds 8] [--precisions float32,bfloat16] [--processes 4]

Swin-T, rank 64, four tasks at 448 px on JPEGs; several load generators, for one alone would be the limit. Of several
server processes, which share the GPU, each gets its part of the codec threads and of the generators.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.harness import save
from benchmarks.lab import Lab
from benchmarks.servers import Server, serve
from benchmarks.sets import TINY448, Weights, make_weights, write_photo
from mtlora.bench.load import Plan, Stream, Target

GENERATORS, CLIENTS = 4, 16
STARTING_S = 2.0  # of the generators
SETS = 16
PHOTOS = {"640x480": (640, 480), "1280x960": (1280, 960)}
STAGES = ("decode", "queue", "forward", "encode")


@dataclass(slots=True)
class Bench:
    """What the windows share."""

    weights: Weights
    photos: dict[str, Path]
    seconds: float
    lab: Lab = field(default_factory=Lab)

    def window(self, servers: Sequence[Server], photo: str, sets: int, query: str = "") -> float:
        """Answers a second of the first `sets` sets in rotation, as the servers count them while all generators run."""
        plans = []
        for _, server in zip(range(GENERATORS), cycle(servers), strict=False):
            targets = tuple(Target(server.url, f"/predict?adapter={n}{query}") for n in self.weights.names[:sets])
            stream = Stream("all", targets, clients=CLIENTS)
            plans.append(Plan(str(self.photos[photo]), (stream,), self.seconds + 2 * STARTING_S))
        with ThreadPoolExecutor(GENERATORS) as pool:
            reports = [pool.submit(self.lab.load, plan) for plan in plans]
            time.sleep(STARTING_S)
            before, busy, start = _metrics(servers), _cpu_seconds(servers), time.perf_counter()
            time.sleep(self.seconds)
            after, busy, wall = _metrics(servers), _cpu_seconds(servers) - busy, time.perf_counter() - start
            failures = [dict(report.result()["all"].failures) for report in reports]
        if any(failures):
            raise RuntimeError(f"not every request was answered with 200: {failures}")
        found = {series: after[series] - before.get(series, 0.0) for series in after}
        answers = found['mtlora_stage_seconds_count{stage="encode"}']
        stages = ", ".join(f"{stage} {_stage_ms(found, stage):.1f}" for stage in STAGES)
        batch = found["mtlora_batch_images_sum"] / found["mtlora_batch_images_count"]
        print(f"  {photo} {sets:2} sets {query}: {answers / wall:6.1f} answers/s, mean batch {batch:.1f}; "
              f"ms: {stages}; {busy / wall:.1f} cores", flush=True)  # fmt: skip
        return answers / wall


def _metrics(servers: Sequence[Server]) -> Counter[str]:
    """Of all servers together."""
    total: Counter[str] = Counter()
    for server in servers:
        total.update(server.metrics())
    return total


def _cpu_seconds(servers: Sequence[Server]) -> float:
    return sum(server.cpu_seconds() for server in servers)


def _stage_ms(found: dict[str, float], stage: str) -> float:
    """Mean of one image."""
    total, count = (found[f'mtlora_stage_seconds_{part}{{stage="{stage}"}}'] for part in ("sum", "count"))
    return 1e3 * total / count


def engine_rate(bench: Bench, precision: str, images: int) -> float:
    """Images a second of the engine alone in batches of so many."""
    plan = {
        "backbone": str(bench.weights.backbone), "set": str(bench.weights.folder / "default.safetensors"),
        "seconds": 3.0, "threads": 0, "images": images, "device": "cuda", "precision": precision,
    }  # fmt: skip
    return float(bench.lab.run("benchmarks.engine_client", [], plan)["images_per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small photos, all tasks only")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("--codec-threads", type=int, default=max(2, (os.cpu_count() or 2) - 4))
    parser.add_argument("--max-batch-images", type=int, default=16)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mtlora-gpu-") as folder:
        root = Path(folder)
        photos = {name: write_photo(root / f"{name}.jpg", size) for name, size in PHOTOS.items()}
        bench = Bench(make_weights(root, SETS, TINY448), photos, options.seconds)
        flags = {
            "device": "cuda",
            "codec_threads": max(2, options.codec_threads // options.processes),
            "max_batch_images": options.max_batch_images,
            "max_queue_images": 4 * GENERATORS * CLIENTS,
        }
        for precision in options.precisions.split(","):
            alone = engine_rate(bench, precision, options.max_batch_images)
            print(f"{precision}: the engine alone {alone:.0f} images/s in batches of {options.max_batch_images}")
            with ExitStack() as stack:
                servers = [
                    stack.enter_context(serve(bench.weights, root / f"{precision}-{n}", precision=precision, **flags))
                    for n in range(options.processes)
                ]
                rounds = [(bench.window(servers, "640x480", 1), bench.window(servers, "640x480", SETS))
                          for _ in range(options.rounds)]  # fmt: skip
                large = 0.0 if options.quick else bench.window(servers, "1280x960", 1)
                if not options.quick:
                    bench.window(servers, "1280x960", 1, "&tasks=semseg")
            small = statistics.median(one for one, _ in rounds)
            figures |= {
                f"gpu_service.{precision}.rps": small,
                f"gpu_service.{precision}.rps_large": large,
                f"gpu_service.{precision}.rps_over_engine": small / alone,
                f"gpu_service.{precision}.uniform16": statistics.median(many / one for one, many in rounds),
            }
    save("gpu_service", figures, options=vars(options))


if __name__ == "__main__":
    main()
