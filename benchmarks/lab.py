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
from typing import Any, TypeVar

from app.cli import ENVIRONMENT
from benchmarks.harness import BUSY_SHARE, busy_seconds, family_seconds
from mtlora.bench.load import Plan, Report, StreamReport

T = TypeVar("T")

PREFIX_VARIABLE = "MTLORA_BENCH_PREFIX"


class Lab:
    """Starts clients; before each the command of MTLORA_BENCH_PREFIX, if there is one, as `nice -n -10`."""

    def __init__(self) -> None:
        self.other_load: list[float] = []  # per window that counts: share of the machine's cores that others took
        self.spoiled = 0  # rounds that do not count

    def load(self, plan: Plan) -> Report:
        """Run a plan of requests."""
        raw = self.run("benchmarks.load_client", [], asdict(plan))
        streams = {name: StreamReport(**stream) for name, stream in raw["streams"].items()}
        return Report(streams, raw["lag_ms"], raw["cpu_share"])

    def run(self, module: str, arguments: Sequence[str], document: object) -> Any:
        """Run a module of measurements (see `answer`), with the server's allocator: JSON in, JSON out."""
        before = shlex.split(os.environ.get(PREFIX_VARIABLE, ""))
        ours = family_seconds()
        command = [*before, sys.executable, "-m", module, *arguments]
        ended = subprocess.run(
            command, input=json.dumps(document), capture_output=True, text=True, check=False,
            env={**ENVIRONMENT, **os.environ},
        )  # fmt: skip
        if ended.returncode:
            raise RuntimeError(f"{module} ended with {ended.returncode}: {ended.stderr[-2000:]}")
        found = json.loads(ended.stdout)
        others = found["busy_s"] - (family_seconds() - ours)
        self.other_load.append(max(0.0, others / (found["wall_s"] * (os.cpu_count() or 1))))
        return found["result"]

    def rounds(self, wanted: int, measure: Callable[[int], T]) -> list[T]:
        """What `measure` gives for rounds 0, 1, …, without those in which others took more than a little.

        Whether a round counts is decided by the load alone. After three times as many rounds as wanted the least
        disturbed of all are taken, and `warn` will say so.
        """
        done: list[tuple[float, int, T, list[float]]] = []
        for number in range(3 * wanted):
            kept, self.other_load = self.other_load, []
            result = measure(number)
            done.append((max(self.other_load, default=0.0), number, result, self.other_load))
            self.other_load = kept
            if sum(load <= BUSY_SHARE for load, *_ in done) == wanted:
                break
        best = sorted(sorted(done, key=lambda one: one[:1])[:wanted], key=lambda one: one[1])
        self.spoiled += len(done) - wanted
        for *_, loads in best:
            self.other_load += loads
        return [result for _, _, result, _ in best]

    def summary(self) -> dict[str, float]:
        """Of the other load, over windows."""
        if not self.other_load:
            return {}
        return {
            "median": round(statistics.median(self.other_load), 3),
            "max": round(max(self.other_load), 3),
            "spoiled_rounds": self.spoiled,
        }

    def warn(self) -> None:
        """Say so if others took more than a little."""
        if self.spoiled:
            print(
                f"{self.spoiled} rounds were repeated: others took more than {BUSY_SHARE:.0%} of the machine meanwhile"
            )
        if self.other_load and (share := max(self.other_load)) > BUSY_SHARE:
            print(f"WARNING: others took up to {share:.0%} of the machine; these figures are not to be quoted")


def answer(measure: Callable[[Any], Any]) -> None:
    """The main of a client: a document from standard input, the result and the machine's load to standard output."""
    document = json.load(sys.stdin)
    busy, wall = busy_seconds(), time.perf_counter()
    result = measure(document)
    times = {"busy_s": busy_seconds() - busy, "wall_s": time.perf_counter() - wall}
    json.dump({"result": result, **times}, sys.stdout)
