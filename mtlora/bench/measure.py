"""The measurement of `mtlora bench`: a server unloaded, then under Poisson arrivals, and the ratios of the two."""

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mtlora.bench.load import QUANTILES, Plan, Stream, StreamReport, Target, quantile, run
from mtlora.vocabulary.errors import RemoteError

IDLE_S = 4.0
WARM_UP_S = 1.0
LATE = 0.1  # of the median latency: a generator that is later than this measures itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked, and how often.

    rate:    requests a second; 0: half of what the server answers one by one
    clients: most connections at a time; a request that is due and waits for one is late, and that counts
    """

    url: str
    photo: Path
    content_type: str = "image/jpeg"
    adapters: tuple[str, ...] = ()  # in turn; none: the server's default set
    tasks: str = ""
    rate: float = 0.0
    seconds: float = 20.0
    clients: int = 64
    timeout_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive = self.seconds > 0 and self.clients >= 1 and self.timeout_s > 0
        if not positive or not math.isfinite(self.rate) or self.rate < 0:
            raise RemoteError(
                "a load needs seconds > 0, clients >= 1, timeout > 0 and rate >= 0,"
                f" got {self.seconds}, {self.clients}, {self.timeout_s}, {self.rate}"
            )

    def targets(self) -> tuple[Target, ...]:
        """One for each set."""
        named = [{"tasks": self.tasks, "adapter": name} for name in self.adapters or ("",)]
        return tuple(Target(self.url, f"/predict?{urlencode({k: v for k, v in one.items() if v})}") for one in named)


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it; latencies count from the scheduled time, so waiting for a busy server is in them."""

    rate: float  # requests a second that were asked for
    idle_ms: float  # median latency of one request at a time
    idle_answers: int
    load: StreamReport
    lag_p99_ms: float  # how late the generator itself was
    cpu_share: float  # of one core, taken by the generator

    @property
    def answered(self) -> float:
        """Share of the requests with status 200, 0..1."""
        return len(self.load.latency_ms) / self.load.sent if self.load.sent else 0.0

    @property
    def trustworthy(self) -> bool:
        """Whether the generator kept its times."""
        return self.lag_p99_ms <= LATE * quantile(self.load.latency_ms, 0.5) if self.load.latency_ms else False

    def document(self) -> dict[str, Any]:
        """As JSON; ratios beside what they are ratios of."""
        latencies = self.load.latency_ms
        found = {name: quantile(latencies, q) for name, q in QUANTILES.items()} if latencies else {}
        return {
            "rate_rps": round(self.rate, 3),
            "throughput_rps": round(self.load.throughput, 3),
            "throughput_of_rate": round(self.load.throughput / self.rate, 3),
            "sent": self.load.sent,
            "answered": len(latencies),
            "answered_share": round(self.answered, 4),
            "failures": dict(self.load.failures),
            "idle_ms": round(self.idle_ms, 2),
            "latency_ms": {name: round(ms, 2) for name, ms in found.items()},
            "latency_of_idle": {name: round(ms / self.idle_ms, 2) for name, ms in found.items()},
            "p99_of_p50": round(found["p99"] / found["p50"], 2) if found else None,
            "generator": {
                "lag_p99_ms": round(self.lag_p99_ms, 2),
                "cpu_share": round(self.cpu_share, 3),
                "kept_its_times": self.trustworthy,
            },
        }


def measure(load: Load, key: str = "") -> Measured:
    """Idle first, one request at a time, then the load. `RemoteError` if nothing is answered at all."""
    targets = load.targets()
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    def plan(stream: Stream, seconds: float) -> Plan:
        return Plan(
            str(load.photo), (stream,), WARM_UP_S + seconds, WARM_UP_S, load.seed, load.content_type, load.timeout_s,
            headers,
        )  # fmt: skip

    idle = asyncio.run(run(plan(Stream("idle", targets, clients=1), IDLE_S)))["idle"]
    if not idle.latency_ms:
        said = ", ".join(f"{what} ({count})" for what, count in idle.failures.items())
        raise RemoteError(f"{load.url} answered none of {idle.sent} requests: {said or 'none ended in time'}")
    idle_ms = quantile(idle.latency_ms, 0.5)
    rate = load.rate or 500 / idle_ms
    report = asyncio.run(run(plan(Stream("load", targets, rate, load.clients), load.seconds)))
    lag = quantile(report.lag_ms, 0.99) if report.lag_ms else 0.0
    return Measured(rate, idle_ms, len(idle.latency_ms), report["load"], lag, report.cpu_share)
