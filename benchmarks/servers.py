"""Server processes to measure: started with the same allocator and threads, watched through /proc (Linux)."""

import contextlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.cli import ENVIRONMENT
from benchmarks.harness import cpu_seconds, family
from benchmarks.sets import Weights

START_TIMEOUT_S = 300.0  # on a busy machine
STOP_TIMEOUT_S = 40.0


class Server:
    """A process that listens on a loopback port of its own until the `with` ends."""

    def __init__(
        self, command: Sequence[str], port: int, log: Path, *, ready: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.port, self.url, self.log = port, f"http://127.0.0.1:{port}", log
        self._ready = ready
        with log.open("ab") as output:
            everything = {**ENVIRONMENT, **os.environ, **(env or {})}
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=everything)

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Until the ready path answers 200; `RuntimeError` with the end of the log if the process ends instead."""
        end = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"not ready (exit status {self.process.poll()}): {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM, or SIGKILL if that takes too long; the exit status."""
        children = family(self.process.pid)[1:]
        self.process.terminate()
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self.process.returncode
        for pid in children:  # LitServe leaves workers behind
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return status

    def kill(self) -> None:
        """SIGKILL, as a crash; what it started goes too."""
        for pid in reversed(family(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def rss_bytes(self) -> int:
        """Resident memory of the process alone."""
        return _status_kib(self.process.pid, "VmRSS") * 1024

    def family_rss_bytes(self) -> int:
        """Resident memory of the process and its children; pages that two of them share count twice."""
        return sum(_resident_bytes(pid) for pid in family(self.process.pid))

    def pss_bytes(self) -> int:
        """Memory of the process and its children, pages that are shared counted once among their sharers."""
        return sum(_pss_kib(pid) for pid in family(self.process.pid)) * 1024

    def cpu_seconds(self) -> float:
        """Processor time of the process and its children so far."""
        return sum(cpu_seconds(pid) for pid in family(self.process.pid))

    def metrics(self) -> dict[str, float]:
        """What /metrics shows now."""
        status, body = self._get("/metrics")
        if status != 200:
            raise RuntimeError(f"{self.url}/metrics answered {status}")
        return parse_metrics(body.decode())

    def _is_ready(self) -> bool:
        try:
            return self._get(self._ready)[0] == 200
        except OSError:
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def serve(weights: Weights, store: Path, *, port: int = 0, **flags: object) -> Server:
    """`mtlora serve` as an operator starts it."""
    port = port or free_port()
    given = {
        "port": port,
        "store": store,
        "backbone": weights.backbone,
        "adapters": weights.folder,
        "log_level": "warning",
        **flags,
    }
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-c", "from mtlora.cli.main import main; main()", "serve", *options]
    return Server(command, port, store.with_suffix(".log"), ready="/readyz")


def room_for(sets: float, weights: Weights, scratch: Path, **flags: Any) -> dict[str, int]:
    """Flags that give a server room for so many sets, on the device and as copies; asks one that holds just one set."""
    with serve(weights, scratch / "probe", **flags) as server:
        values = server.metrics()
    one = {tier: values[f'mtlora_adapter_bytes{{tier="{tier}"}}'] for tier in ("device", "host")}
    return {f"{tier}_bytes": int(sets * size) for tier, size in one.items()}


def parse_metrics(text: str) -> dict[str, float]:
    """{series with labels: value} of Prometheus' text format."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _status_kib(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/{pid}/status has no {key}")


def _resident_bytes(pid: int) -> int:
    """0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Pss")
