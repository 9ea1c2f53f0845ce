"""Hostile photos beside a good client: what they cost the server, and what the good client notices (Linux).

    python -m benchmarks.bench_hostile [--files DIR] [--copies 2] [--queries Q ...] [--only TEXT] [--decoding threads]

Every file, two at a time, each under every query, beside a client that sends an ordinary photo without pause. Files are
those that the tests make, and every file in DIR. Server's flags are its defaults, address space is limited.

Goals: memory of the server and its children never grows by more than 600 MB and comes back; the good client's requests
all succeed, none slower than 3 s; every bad one is answered within its deadline.
"""

import argparse
import http.client
import io
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks.harness import machine, save
from benchmarks.servers import Server, serve
from benchmarks.sets import make_weights
from testing.hostile_images import HARMLESS, REFUSED

ADDRESS_SPACE = 14 << 30
DEADLINE_S = 60.0
QUERY = "tasks=semseg&masks=none"
SETTLE_S = 4.0
CALM_MIB = 64  # what warms up meanwhile
SAMPLE_S = 0.02
MIB = 1 << 20


@dataclass(slots=True)
class Answer:
    """Of one request."""

    status: int
    seconds: float
    said: str = ""


@dataclass(slots=True)
class Trial:
    """What one file did."""

    name: str
    query: str
    nbytes: int
    bad: list[Answer] = field(default_factory=list)
    good: list[Answer] = field(default_factory=list)
    grown_mib: float = 0.0  # at the most
    left_mib: float = 0.0  # when it was over


class Client:
    """Sends photos to one server."""

    def __init__(self, server: Server) -> None:
        self._port = server.port

    def send(self, photo: bytes, query: str = QUERY) -> Answer:
        """One photo; status 0: no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S + 15)
        began = time.monotonic()
        try:
            connection.request("POST", f"/predict?{query}", photo, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            size = 0
            head = response.read(200)
            while chunk := response.read(1 << 20):
                size += len(chunk)
            said = head.decode("utf-8", "replace") if response.status != 200 else ""
            return Answer(response.status, time.monotonic() - began, said)
        except OSError as error:
            return Answer(0, time.monotonic() - began, str(error))
        finally:
            connection.close()


def resident_mib(server: Server) -> float:
    """Of the server and its children."""
    return server.family_rss_bytes() / MIB


class Peak:
    """The most memory that a server took while the `with` was open."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self.mib = resident_mib(server)

    @contextmanager
    def watched(self) -> Iterator["Peak"]:
        """Look all the time."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.mib = max(self.mib, resident_mib(self._server))


def photo() -> bytes:
    """An ordinary one."""
    buffer = io.BytesIO()
    Image.effect_noise((640, 480), 40).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def attempt(server: Server, name: str, data: bytes, query: str, copies: int, base_mib: float) -> Trial:
    """One file, so many at once, beside the good client."""
    client, ordinary = Client(server), photo()
    trial = Trial(name, query, len(data))
    threads = [threading.Thread(target=lambda: trial.bad.append(client.send(data, query))) for _ in range(copies)]
    with Peak(server).watched() as peak:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or not trial.good:
            trial.good.append(client.send(ordinary))
        for thread in threads:
            thread.join()
    trial.grown_mib = peak.mib - base_mib
    trial.left_mib = _settled(server, base_mib)
    return trial


def _settled(server: Server, base_mib: float) -> float:
    """Memory that is left, once it has come back or was given the time."""
    end = time.monotonic() + SETTLE_S
    while (left := resident_mib(server) - base_mib) > CALM_MIB and time.monotonic() < end:
        time.sleep(0.1)
    return left


def files(folder: Path | None) -> Iterator[tuple[str, bytes]]:
    """Names and bytes."""
    yield from (HARMLESS | REFUSED).items()
    if folder is not None:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            yield path.name, path.read_bytes()


def line(trial: Trial) -> str:
    """One trial, to read."""
    bad = " ".join(f"{answer.status}/{answer.seconds:.1f}s" for answer in trial.bad)
    worst = max(answer.seconds for answer in trial.good)
    failed = sum(answer.status != 200 for answer in trial.good)
    good = f"good {len(trial.good)} worst {worst:.2f}s failed {failed}"
    memory = f"{trial.grown_mib:+7.0f} {trial.left_mib:+6.0f} MiB"
    return f"{trial.name[:44]:44s} {trial.nbytes:>9d} B  {bad:22s} {good:34s} {memory}"


def figures(trials: list[Trial]) -> dict[str, float]:
    """What the goals are about."""
    good = [answer for trial in trials for answer in trial.good]
    bad = [answer for trial in trials for answer in trial.bad]
    return {
        "hostile.files": len({trial.name for trial in trials}),
        "hostile.requests": len(bad),
        "hostile.grown_mib": max(trial.grown_mib for trial in trials),
        "hostile.left_mib": trials[-1].left_mib,
        "hostile.good_requests": len(good),
        "hostile.good_failed": sum(answer.status != 200 for answer in good),
        "hostile.good_worst_s": max(answer.seconds for answer in good),
        "hostile.bad_unanswered": sum(answer.status == 0 or answer.seconds > DEADLINE_S for answer in bad),
        "hostile.bad_worst_s": max(answer.seconds for answer in bad),
        "hostile.server_errors": sum(answer.status >= 500 and answer.status != 504 for answer in bad),
    }


def main() -> None:
    """Try every file and save what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--queries", nargs="+", default=[QUERY])
    parser.add_argument("--only", default="")
    parser.add_argument("--decoding", default="processes")
    given = parser.parse_args()
    trials: list[Trial] = []
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with serve(make_weights(scratch, 1), scratch / "store", decoding=given.decoding) as server:
            client = Client(server)
            for _ in range(10):
                client.send(photo())
            base_mib = resident_mib(server)
            print(f"server and children: {base_mib:.0f} MiB", flush=True)
            for name, data in files(given.files):
                if given.only in name:
                    for query in given.queries:
                        trials.append(attempt(server, name, data, query, given.copies, base_mib))
                        print(line(trials[-1]), flush=True)
            lost = {k: v for k, v in server.metrics().items() if k.startswith("mtlora_decoders_lost_total")}
        print(json.dumps(lost), (scratch / "store.log").read_text()[-300:], file=sys.stderr)
    save("hostile", figures(trials), about=machine(), lost=lost, trials=[asdict(trial) for trial in trials])


if __name__ == "__main__":
    main()
