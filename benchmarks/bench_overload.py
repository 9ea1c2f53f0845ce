"""What `compute=auto` gives at more load than a server can compute, beside the same requests at full compute.

    python -m benchmarks.bench_overload [--seconds 60] [--load 2.0] [--deadline-ms 3000] [--quick]

A server with Swin-T at 448 px, four tasks, random weights and a random policy: what it opens does not matter here. Its
capacity is what four clients get that wait for each answer. Then photos arrive at `--load` times that, at random times
whatever is answered (open loop, Poisson), first with compute=1, then with compute=auto; beside them a few of another
set, always in full, whose share is theirs whatever the others do. Times count from when a photo was to be sent.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch

from benchmarks.harness import save
from benchmarks.servers import Server, serve
from benchmarks.sets import TINY448, Weights, make_weights, write_photo
from mtlora.vocabulary.policy import Policy, PolicyKind, PolicyMode, policy_shapes
from mtlora.weights.adapter_file import AdapterManifest, load_adapter, write_adapter

CONNECTIONS = 4
RARE_EVERY_S = 4.0
WAYS = ("1", "auto")
JPEG = {"Content-Type": "image/jpeg"}


@dataclass
class Outcomes:
    """What became of the photos of one stream."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of those answered 200
    shares: list[float] = field(default_factory=list)

    def figures(self, deadline_s: float) -> dict[str, float]:
        """answered: of all, within the deadline."""
        good = [s for s in self.seconds if s <= deadline_s]
        return {
            "answered": len(good) / len(self.statuses),
            "refused": sum(status == 429 for status in self.statuses) / len(self.statuses),
            "late": sum(status == 504 for status in self.statuses) / len(self.statuses),
            "p95_s": quantile(self.seconds, 0.95),
            "share": statistics.fmean(self.shares) if self.shares else 0.0,
        }


def quantile(values: list[float], q: float) -> float:
    """Of what there is; 0 of nothing."""
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else 0.0


def with_policy(source: Path, target: Path) -> None:
    """The same set with a policy of blocks and windows, random."""
    adapter = load_adapter(source)
    policy = Policy(kind=PolicyKind.POOLED, mode=PolicyMode.PER_TASK, windows=True)
    shapes = policy_shapes(adapter.manifest.spec, policy.shape)
    torch.manual_seed(0)
    tensors = {name: torch.randn(s) * (s[-1] ** -0.5 if len(s) > 1 else 0.3) for name, s in shapes.items()}
    manifest = AdapterManifest(**{**adapter.manifest.model_dump(), "format_version": 2, "policy": policy.model_dump()})
    write_adapter(target, manifest, adapter.tensors | tensors)


def capacity(server: Server, photo: bytes, seconds: float) -> float:
    """Answers a second of clients that wait for each answer, everything computed."""
    url = f"{server.url}/predict?adapter=gated&masks=none"
    counts, end = [0] * CONNECTIONS, time.monotonic() + seconds

    def work(number: int) -> None:
        with httpx.Client(timeout=60) as client:
            while time.monotonic() < end:
                client.post(url, content=photo, headers=JPEG).raise_for_status()
                counts[number] += 1

    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


async def arrive(
    server: Server, photo: bytes, *, rate: float, seconds: float, way: str, deadline_ms: int
) -> tuple[Outcomes, Outcomes]:
    """The many, with that `compute`, and the rare ones of another set."""
    many, rare = Outcomes(), Outcomes()
    chance = random.Random(0)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client, asyncio.TaskGroup() as group:
        began = time.monotonic()

        async def one(at: float, query: str, into: Outcomes) -> None:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            url = f"{server.url}/predict?masks=none&deadline_ms={deadline_ms}&{query}"
            response = await client.post(url, content=photo, headers=JPEG)
            into.statuses.append(response.status_code)
            if response.status_code == 200:
                into.seconds.append(time.monotonic() - began - at)
                into.shares.append(float(response.headers.get("X-Compute-Share", 1)))

        at = 0.0
        while (at := at + chance.expovariate(rate)) < seconds:
            group.create_task(one(at, f"adapter=gated&compute={way}", many))
        for number in range(1, int(seconds / RARE_EVERY_S)):
            group.create_task(one(number * RARE_EVERY_S, "adapter=default", rare))
    return many, rare


def measure(given: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """Both ways against one server each."""
    photo = write_photo(scratch / "photo.jpg", (640, 480)).read_bytes()
    weights = make_weights(scratch, 1, TINY448)
    with_policy(weights.folder / "default.safetensors", weights.folder / "gated.safetensors")
    weights = Weights(weights.backbone, weights.folder, ("default", "gated"))
    figures: dict[str, float] = {}
    for way in WAYS:
        with serve(weights, scratch / f"store-{way}") as server:
            httpx.post(f"{server.url}/adapters/gated/load", timeout=60)
            rate = capacity(server, photo, given.seconds / 4)
            figures.setdefault("overload.capacity", rate)
            run = arrive(
                server,
                photo,
                rate=given.load * figures["overload.capacity"],
                seconds=given.seconds,
                way=way,
                deadline_ms=given.deadline_ms,
            )
            many, rare = asyncio.run(run)
        for stream, outcomes in (("many", many), ("rare", rare)):
            figures |= {
                f"overload.{way}.{stream}.{name}": value
                for name, value in outcomes.figures(given.deadline_ms / 1000).items()
            }
    return figures


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--load", type=float, default=2.0, help="times the capacity")
    parser.add_argument("--deadline-ms", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="a few seconds, only to see that it works")
    given = parser.parse_args()
    if given.quick:
        given.seconds = 12.0
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(given, Path(folder))
    save("bench_overload", figures, options=vars(given))


if __name__ == "__main__":
    main()
