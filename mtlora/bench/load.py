"""The load generator: open loop with Poisson arrivals, or closed loop; to be run in a process of its own.

Open loop: requests are due at times drawn beforehand, whatever the server does, and their latency counts from that
time, so a server that stalls is charged for everyone who would have waited. Closed loop (rate 0): each of N clients
sends its next request when the last one is answered; that measures throughput, and its latencies are not to be quoted.

How late the generator itself was (`lag`) is in the report: figures are good only where it is small beside the latency.
"""

import asyncio
import itertools
import math
import random
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlora.bench.http_client import Client, Reply, TransportError

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked, of which server."""

    url: str
    path: str = "/predict"
    body: str = ""  # a file to send instead of the plan's photo, and its type
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one kind."""

    name: str
    targets: tuple[Target, ...]
    rate: float = 0.0  # requests a second; 0: closed loop
    clients: int = 64  # open loop: most connections at a time, waiting for one counts; closed loop: clients
    pick: str = "rotate"  # or "random"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    photo: str
    streams: tuple[Stream, ...]
    seconds: float
    warmup_s: float = 2.0  # requests due in this time are sent and not counted
    seed: int = 0
    content_type: str = "image/jpeg"
    timeout_s: float = 60.0
    headers: dict[str, str] = field(default_factory=dict)  # beside the type of the body
    beside: tuple[str, ...] = ()  # a command that runs while the load does, in a process of its own


@dataclass(slots=True)
class StreamReport:
    """What came of one stream. Latencies are of answers with status 200; all else is in `failures`."""

    sent: int = 0
    latency_ms: list[float] = field(default_factory=list)  # open loop: from the scheduled time
    ends_s: list[float] = field(default_factory=list)  # when those answers were there, from the start
    failures: dict[str, int] = field(default_factory=dict)  # by status, or by what went wrong

    @property
    def throughput(self) -> float:
        """Answers a second between the first and the last; free of the window's edges."""
        ends = sorted(self.ends_s)
        return (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 and ends[-1] > ends[0] else 0.0

    def summary(self) -> dict[str, Any]:
        """Without the samples."""
        return {
            "sent": self.sent,
            "ok": len(self.latency_ms),
            "failures": self.failures,
            "throughput_rps": round(self.throughput, 3),
            "latency_ms": quantiles(self.latency_ms),
        }


@dataclass(slots=True)
class Report:
    """One run: streams by name, and how late the generator was."""

    streams: dict[str, StreamReport]
    lag_ms: list[float]
    cpu_share: float  # of one core, taken by the generator

    def __getitem__(self, name: str) -> StreamReport:
        return self.streams[name]

    def summary(self) -> dict[str, Any]:
        """Without the samples."""
        lag = {k: v for k, v in quantiles(self.lag_ms).items() if k in {"p50", "p99", "max"}}
        streams = {name: stream.summary() for name, stream in self.streams.items()}
        return {"streams": streams, "generator": {"lag_ms": lag, "cpu_share": round(self.cpu_share, 3)}}


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that a share q of all does not exceed; from the values themselves, so exact."""
    if not values:
        raise ValueError(f"no values to take the quantile {q} of: was anything answered?")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The usual quantiles, mean and largest; empty without values."""
    if not values:
        return {}
    found = {name: quantile(values, q) for name, q in QUANTILES.items()}
    return {k: round(v, 2) for k, v in {**found, "max": max(values), "mean": statistics.fmean(values)}.items()}


async def run(plan: Plan) -> Report:
    """Run a plan here, with what is to run beside it."""
    generator = _Generator(plan)
    beside = subprocess.Popen(plan.beside) if plan.beside else None
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        await generator.run()
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
        if beside is not None and beside.poll() is not None:
            raise RuntimeError(f"{plan.beside[:4]} ended with {beside.returncode} before the load did")
    finally:
        if beside is not None:
            beside.terminate()
            beside.wait()
    return Report(generator.reports, generator.lag_ms, share)


class _Generator:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._bodies: dict[str, bytes] = {}
        self.reports = {stream.name: StreamReport() for stream in plan.streams}
        self.lag_ms: list[float] = []
        self._clients: dict[tuple[str, str], Client] = {}
        self._start = 0.0

    async def run(self) -> None:
        self._start = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for stream in self._plan.streams:
                    group.create_task(self._open(stream) if stream.rate else self._closed(stream))
        finally:
            for client in self._clients.values():
                client.forget_connections()

    async def _open(self, stream: Stream) -> None:
        targets = _picks(stream, self._plan.seed)
        async with asyncio.TaskGroup() as group:
            for due in arrivals(stream.rate, self._plan.seconds, f"{self._plan.seed} {stream.name}"):
                wait = self._start + due - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                self.lag_ms.append(1e3 * max(0.0, time.perf_counter() - self._start - due))
                group.create_task(self._send(stream, next(targets), due))

    async def _closed(self, stream: Stream) -> None:
        targets = _picks(stream, self._plan.seed)

        async def client() -> None:
            while (now := time.perf_counter() - self._start) < self._plan.seconds:
                await self._send(stream, next(targets), now)

        async with asyncio.TaskGroup() as group:
            for _ in range(stream.clients):
                group.create_task(client())

    async def _send(self, stream: Stream, target: Target, due: float) -> None:
        outcome = await self._outcome(stream, target)
        end = time.perf_counter() - self._start
        if due < self._plan.warmup_s:
            return
        report = self.reports[stream.name]
        report.sent += 1
        if isinstance(outcome, Reply) and outcome.status == 200:
            report.latency_ms.append(round(1e3 * (end - due), 3))
            report.ends_s.append(round(end, 6))
        else:
            what = str(outcome.status) if isinstance(outcome, Reply) else outcome
            report.failures[what] = report.failures.get(what, 0) + 1

    async def _outcome(self, stream: Stream, target: Target) -> Reply | str:
        key = (stream.name, target.url)
        if key not in self._clients:
            self._clients[key] = Client(target.url, connections=stream.clients, timeout_s=self._plan.timeout_s)
        body = target.body or self._plan.photo
        if body not in self._bodies:
            self._bodies[body] = Path(body).read_bytes()
        content_type = target.content_type or self._plan.content_type
        headers = {"Accept": "application/json", **self._plan.headers, "Content-Type": content_type}
        try:
            return await self._clients[key].request("POST", target.path, self._bodies[body], headers)
        except TransportError as error:
            return str(error.__cause__ or error).split(":")[0]


def arrivals(rate: float, seconds: float, seed: str) -> list[float]:
    """Times of a Poisson process of `rate` a second, in [0, seconds)."""
    chance = random.Random(seed)
    times = itertools.accumulate(iter(lambda: chance.expovariate(rate), None))
    return list(itertools.takewhile(lambda t: t < seconds, times))


def _picks(stream: Stream, seed: int) -> Iterator[Target]:
    if stream.pick == "rotate":
        return itertools.cycle(stream.targets)
    chance = random.Random(f"{seed} {stream.name} targets")
    return iter(lambda: chance.choice(stream.targets), None)
