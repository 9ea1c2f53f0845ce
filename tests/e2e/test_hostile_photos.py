"""Photos that are built to cost, two at a time, against one real server of default bounds: memory of the server and its
decoders stays within bounds and comes back, every photo is answered, and good clients are answered as before."""

import os
import signal
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.harness import family
from testing.hostile_images import HARMLESS, REFUSED, drawn_png
from testing.photos import costly
from testing.serving import ServerProcess, Weights, wait_until
from tests.e2e.test_hostile import GoodClient

MOST_GROWTH_MIB = 600
LEFT_MIB = 150
PAGE = 4096
SMALL_HERE = {"jpeg: scans of a large picture"}  # within the default limit of pixels
ANSWERS = {200, 413, 415, 422}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is read from /proc")


def grey_png(width: int, height: int) -> bytes:
    return drawn_png((width, height), 8, 0, (width + 1) * height)


LARGE = {
    "49 megapixels": grey_png(7000, 7000),
    "49 megapixels of 16-bit colours": drawn_png((7000, 7000), 16, 6, (8 * 7000 + 1) * 7000),
    "narrow": grey_png(1, 65_535),
    "too narrow": grey_png(1, 4_000_000),
    "wide": grey_png(65_535, 1),
    "slow": costly(90, 2048),
}
QUERIES = (
    "masks=none",
    "tasks=semseg&format=png",
    "tasks=normals&format=png",
    "tasks=semseg&format=overlay",
    "masks=rle",
)


@pytest.fixture(scope="module")
def server(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(weights, tmp_path_factory.mktemp("photos") / "store")
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


def resident_mib(server: ServerProcess) -> float:
    pages = 0
    for pid in family(server.process.pid):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue
    return pages * PAGE / 2**20


class Watch(threading.Thread):
    """The most memory that a server takes."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.over = threading.Event()
        self.most_mib = 0.0

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.most_mib = max(self.most_mib, resident_mib(self._server))


def send(server: ServerProcess, data: bytes, query: str = "masks=none") -> int:
    headers = {"Content-Type": "image/png"}
    return httpx.post(f"{server.url}/predict?{query}", content=data, headers=headers, timeout=120).status_code


def two_at_once(server: ServerProcess, data: bytes, query: str) -> list[int]:
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(send(server, data, query))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def attack(server: ServerProcess, photos: dict[str, bytes], queries: tuple[str, ...]) -> dict[str, list[int]]:
    """Statuses by photo; fails if memory or a good client suffers."""
    base, good, watch = resident_mib(server), GoodClient(server.url), Watch(server)
    good.start()
    watch.start()
    found: dict[str, list[int]] = {}
    for name, data in photos.items():
        for query in queries:
            found.setdefault(name, []).extend(two_at_once(server, data, query))
    watch.over.set()
    good.stopping.set()
    watch.join()
    good.join()
    assert good.wrong == []
    assert good.answers > 0
    assert watch.most_mib - base < MOST_GROWTH_MIB
    wait_until(lambda: resident_mib(server) - base < LEFT_MIB, 20)
    assert {status for statuses in found.values() for status in statuses} <= ANSWERS, found
    return found


def test_files_built_to_be_slow(server: ServerProcess) -> None:
    found = attack(server, REFUSED | HARMLESS, ("masks=none",))
    assert {name for name in REFUSED if 200 in found[name]} <= SMALL_HERE
    assert {name for name in HARMLESS if set(found[name]) != {200}} == set()


def test_large_and_narrow_photos_in_every_form(server: ServerProcess) -> None:
    found = attack(server, LARGE, QUERIES)
    assert set(found["49 megapixels"]) == set(found["narrow"]) == set(found["wide"]) == {200}
    assert set(found["too narrow"]) == {413}


def test_a_killed_decoder_costs_no_photo(server: ServerProcess) -> None:
    decoders = family(server.process.pid)[1:]
    assert len(decoders) >= 3
    for pid in decoders:
        os.kill(pid, signal.SIGKILL)
    assert [send(server, grey_png(64, 48)) for _ in range(4)] == [200] * 4
    wait_until(lambda: len(family(server.process.pid)) == len(decoders) + 1, 30)


def test_no_decoder_outlives_a_server_that_is_killed(weights: Weights, tmp_path: Path) -> None:
    server = ServerProcess(weights, tmp_path / "store")
    server.wait_ready()
    decoders = family(server.process.pid)[1:]
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in decoders), 30)


def test_no_decoder_outlives_a_server_that_is_killed_whatever_it_is_at(weights: Weights, tmp_path: Path) -> None:
    """One that is stopped notices as little of the end of its channel as one that is at a photo for minutes."""
    server = ServerProcess(weights, tmp_path / "store")
    server.wait_ready()
    decoders = family(server.process.pid)[1:]
    try:
        for pid in decoders:
            os.kill(pid, signal.SIGSTOP)
        server.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in decoders), 30)
    finally:
        for pid in decoders:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_the_pictures_are_what_they_say() -> None:
    """A PNG of ours is one: what is refused above is refused for its cost."""
    data = grey_png(3, 2)
    assert struct.unpack(">II", data[16:24]) == (3, 2)
    assert zlib.decompress(data[41:-16]) == bytes(8)
