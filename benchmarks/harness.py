"""Fair timings: interleaved rounds, medians, ratios within one run, and a word about other load on the machine."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BUSY_SHARE = 0.05  # of all cores, taken by others


def interleaved(
    cases: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every case in every round; each round runs all cases once, so drift hits them alike."""
    for _ in range(warmup):
        for run in cases.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def median_ms(seconds: list[float]) -> float:
    """Median in milliseconds."""
    return 1e3 * statistics.median(seconds)


class OtherLoad:
    """Share of the machine's cores that other processes used between entering and leaving (Linux)."""

    def __enter__(self) -> "OtherLoad":
        self._start = (time.perf_counter(), busy_seconds(), time.process_time())
        self.share = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        wall = time.perf_counter() - self._start[0]
        others = (busy_seconds() - self._start[1]) - (time.process_time() - self._start[2])
        self.share = max(0.0, others / (wall * (os.cpu_count() or 1)))

    def warning(self) -> str:
        """A sentence when others took more than a little, else nothing."""
        if self.share < BUSY_SHARE:
            return ""
        return f"WARNING: other processes took {self.share:.0%} of the machine; these figures are not to be quoted"


def family(pid: int) -> list[int]:
    """A process and all that descend from it (Linux)."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for t in threads for c in (t / "children").read_text().split()]
    except FileNotFoundError:
        return []
    return [pid, *(member for child in children for member in family(child))]


def cpu_seconds(pid: int) -> float:
    """Processor time of one process so far; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family_seconds() -> float:
    """Processor time of this process, its living descendants, and those that have ended and were waited for."""
    ended = os.times()
    return sum(cpu_seconds(pid) for pid in family(os.getpid())) + ended.children_user + ended.children_system


def busy_seconds() -> float:
    """Processor time of the whole machine so far (Linux)."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return float(sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    """What a reader needs to know about where figures come from."""
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": head.stdout.strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def save(name: str, figures: Mapping[str, float], **extra: Any) -> Path:
    """Write one run's figures to benchmarks/results/NAME.json and print them, one `figure NAME VALUE` line each."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **extra, "figures": dict(figures)}, indent=1) + "\n")
    show(figures)
    return path


def show(figures: Mapping[str, float]) -> None:
    """One `figure NAME VALUE` line each."""
    for figure, value in figures.items():
        print(f"figure {figure} {value:.4g}", flush=True)
