"""The load generator in a process of its own: a plan as JSON comes in, the report as JSON goes out."""

import asyncio
from dataclasses import asdict
from typing import Any

from benchmarks.lab import answer
from mtlora.bench.load import Plan, Stream, Target, run


def _measure(raw: dict[str, Any]) -> dict[str, Any]:
    streams = tuple(Stream(**{**s, "targets": tuple(Target(**t) for t in s["targets"])}) for s in raw.pop("streams"))
    return asdict(asyncio.run(run(Plan(streams=streams, **raw))))


if __name__ == "__main__":
    answer(_measure)
