"""Measurements in processes of their own, and what else the machine did meanwhile."""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.harness import BUSY_SHARE, busy_seconds, family_seconds
from mtlora.bench.load import Plan, Report, StreamReport

PREFIX_VARIABLE = "MTLORA_BENCH_PREFIX"


class Lab:
    """Starts clients; before each the command of MTLORA_BENCH_PREFIX, if there is one, as `nice -n -10`."""

    def __init__(self) -> None:
        self.other_load: list[float] = []  # per window: share of the machine's cores that others took

    def load(self, plan: Plan) -> Report:
        """Run a plan of requests."""
        raw = self.run("benchmarks.load_client", [], asdict(plan))
        streams = {name: StreamReport(**stream) for name, stream in raw["streams"].items()}
        return Report(streams, raw["lag_ms"], raw["cpu_share"])

    def run(self, module: str, arguments: Sequence[str], document: object) -> Any:
        """Run a module of measurements (see `answer`): JSON in, JSON out."""
        before = shlex.split(os.environ.get(PREFIX_VARIABLE, ""))
        ours = family_seconds()
        command = [*before, sys.executable, "-m", module, *arguments]
        ended = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"{module} ended with {ended.returncode}: {ended.stderr[-2000:]}")
        found = json.loads(ended.stdout)
        others = found["busy_s"] - (family_seconds() - ours)
        self.other_load.append(max(0.0, others / (found["wall_s"] * (os.cpu_count() or 1))))
        return found["result"]

    def summary(self) -> dict[str, float]:
        """Of the other load, over windows."""
        if not self.other_load:
            return {}
        return {"median": round(statistics.median(self.other_load), 3), "max": round(max(self.other_load), 3)}

    def warn(self) -> None:
        """Say so if others took more than a little."""
        if self.other_load and (share := statistics.median(self.other_load)) > BUSY_SHARE:
            print(f"WARNING: other processes took {share:.0%} of the machine; these figures are not to be quoted")


def answer(measure: Callable[[Any], Any]) -> None:
    """The main of a client: a document from standard input, the result and the machine's load to standard output."""
    document = json.load(sys.stdin)
    busy, wall = busy_seconds(), time.perf_counter()
    result = measure(document)
    times = {"busy_s": busy_seconds() - busy, "wall_s": time.perf_counter() - wall}
    json.dump({"result": result, **times}, sys.stdout)
