"""What decoding photos in processes costs and gives, beside decoding them in the server's threads (Linux).

    python -m benchmarks.bench_decoding [--rounds 5] [--seconds 5] [--engine-threads 0] [--width 640 --height 480]

Two servers with the bundled set, one for each way, take turns: one connection for latencies, then several for answers a
second and processor time of an answer (server and decoders together). `--engine-threads 1` leaves the other cores idle.
`added_ms` is of the decoding itself, as `Server-Timing` tells it. The time of the whole answer differs by up to 2 ms
from one server process to the next, whatever it does, because of where its memory lies.
"""

import argparse
import contextlib
import http.client
import re
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.harness import save
from benchmarks.servers import Server, serve
from benchmarks.sets import make_weights, write_photo

WAYS = ("threads", "processes")
QUERY = "/predict?tasks=semseg&masks=none"
CONNECTIONS = 4
WARM_UP = 30
DECODING = re.compile(r"decode;dur=([0-9.]+)")


class Connection:
    """One client's."""

    def __init__(self, server: Server, photo: bytes) -> None:
        self._photo = photo
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask(self) -> tuple[float, float]:
        """Milliseconds of one answer, and of its decoding."""
        began = time.perf_counter()
        self._connection.request("POST", QUERY, self._photo, {"Content-Type": "image/jpeg"})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {body[:200]!r}")
        took_ms = 1e3 * (time.perf_counter() - began)
        return took_ms, float(DECODING.findall(response.headers["Server-Timing"])[0])


def latency_ms(server: Server, photo: bytes, seconds: float) -> tuple[float, float]:
    """Medians of one client that asks again and again: of the answer, and of its decoding."""
    connection, found, end = Connection(server, photo), [], time.monotonic() + seconds
    while time.monotonic() < end:
        found.append(connection.ask())
    whole, decoding = zip(*found, strict=True)
    return statistics.median(whole), statistics.median(decoding)


def throughput(server: Server, photo: bytes, seconds: float) -> tuple[float, float]:
    """Answers a second of several clients, and ms of a processor for each answer."""
    counts = [0] * CONNECTIONS
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        connection = Connection(server, photo)
        while time.monotonic() < end:
            connection.ask()
            counts[number] += 1

    began, cpu = time.monotonic(), server.cpu_seconds()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began), 1e3 * (server.cpu_seconds() - cpu) / sum(counts)


def main() -> None:
    """Both ways in turn; ratios are processes over threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--engine-threads", type=int, default=0)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    given = parser.parse_args()
    rounds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        scratch = Path(folder)
        photo = write_photo(scratch / "photo.jpg", (given.width, given.height)).read_bytes()
        weights = make_weights(scratch, 1)
        servers = {
            way: stack.enter_context(serve(weights, scratch / way, decoding=way, engine_threads=given.engine_threads))
            for way in WAYS
        }
        for server in servers.values():
            for _ in range(WARM_UP):
                Connection(server, photo).ask()
        for number in range(given.rounds):
            for way in WAYS[:: -1 if number % 2 else 1]:
                whole, decoding = latency_ms(servers[way], photo, given.seconds)
                rounds[f"{way}.latency_ms"].append(whole)
                rounds[f"{way}.decode_ms"].append(decoding)
            for way, server in servers.items():
                rate, cpu_ms = throughput(server, photo, given.seconds)
                rounds[f"{way}.answers_a_second"].append(rate)
                rounds[f"{way}.cpu_ms"].append(cpu_ms)
    median = {name: statistics.median(values) for name, values in rounds.items()}
    figures = {f"decoding.{name}": value for name, value in median.items()}
    figures["decoding.added_ms"] = median["processes.decode_ms"] - median["threads.decode_ms"]
    for name in ("answers_a_second", "cpu_ms"):
        figures[f"decoding.{name}_ratio"] = median[f"processes.{name}"] / median[f"threads.{name}"]
    save(f"decoding_{given.engine_threads}", figures, options=vars(given), rounds=rounds)


if __name__ == "__main__":
    main()
