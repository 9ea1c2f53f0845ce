"""The generator: Poisson arrivals, latency from the scheduled time, failures not among the latencies."""

import asyncio
import itertools
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mtlora.bench.http_client import Client, TransportError
from mtlora.bench.load import Plan, Report, Stream, Target, arrivals, quantile, run

STALL_S = 0.3


@asynccontextmanager
async def server(answers: list[int], stall_s: float = 0.0) -> AsyncIterator[str]:
    """Answers one request at a time with the given statuses in turn (the last for ever), after a stall of the first."""
    turn = asyncio.Lock()
    seen = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length"))
            await reader.readexactly(length)
            async with turn:
                status, seen = answers[min(seen, len(answers) - 1)], seen + 1
                await asyncio.sleep(stall_s if seen == 1 else 0)
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok".encode())

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def load(photo: Path, answers: list[int], stall_s: float = 0.0, **stream: float) -> Report:
    async def work() -> Report:
        async with server(answers, stall_s) as url:
            one = Stream("one", (Target(url),), **stream)  # type: ignore[arg-type]
            return await run(Plan(str(photo), (one,), seconds=0.6, warmup_s=0.0))

    return asyncio.run(work())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"not looked at")
    return path


def test_arrivals_are_poisson() -> None:
    times = arrivals(50, 400, "seed")
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)  # as of an exponential
    assert arrivals(50, 1, "other") != arrivals(50, 1, "seed")


def test_quantiles_are_values_that_occurred() -> None:
    values = list(range(1, 101))
    assert [quantile(values, q) for q in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert quantile([7.0], 0.99) == 7.0


def test_a_stall_is_charged_to_everyone_who_was_due_meanwhile(photo: Path) -> None:
    report = load(photo, [200], STALL_S, rate=100)["one"]
    late = [ms for ms in report.latency_ms if ms > 50]
    assert len(late) > 0.5 * 100 * (STALL_S - 0.05)  # a closed loop would have charged one


def test_failures_are_counted_and_are_no_latencies(photo: Path) -> None:
    report = load(photo, [200, 503, 429, 200], rate=50)["one"]
    assert report.failures == {"503": 1, "429": 1}
    assert len(report.latency_ms) == report.sent - 2


def test_closed_loop_keeps_its_number_of_clients(photo: Path) -> None:
    report = load(photo, [200], rate=0, clients=3)["one"]
    assert report.throughput > 100
    assert report.sent == len(report.latency_ms)


def test_no_server_is_a_failure_not_a_hang(photo: Path) -> None:
    async def work() -> Report:
        return await run(Plan(str(photo), (Stream("one", (Target("http://127.0.0.1:9"),), 20),), 0.3, 0.0))

    report = asyncio.run(work())["one"]
    assert report.sent == sum(report.failures.values()) > 0


def test_client_refuses_what_is_no_address() -> None:
    with pytest.raises(ValueError, match="need http://HOST:PORT, got 'ftp://x'"):
        Client("ftp://x")
    assert issubclass(TransportError, Exception)
