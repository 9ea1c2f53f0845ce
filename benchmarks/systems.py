"""The service and its rivals, started alike and asked alike: what differs is who serves."""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.churn.expected import Png, distance, pixels
from benchmarks.servers import Server, free_port, serve
from benchmarks.sets import Weights
from mtlora.bench.http_client import Client
from mtlora.bench.load import Target

BOUNDARY = "a-boundary-that-no-photo-holds"
JPEG = "image/jpeg"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
BASELINES = ("swap", "processes", "litserve")


@dataclass(frozen=True, slots=True)
class System:
    """Servers that together answer for every set."""

    name: str
    servers: tuple[Server, ...]
    targets: dict[str, Target]  # by set

    def memory_bytes(self) -> int:
        """Of all processes, shared pages counted once."""
        return sum(server.pss_bytes() for server in self.servers)

    def maps(self, name: str, photo: Path) -> dict[str, Png]:
        """The maps that a set answers."""
        return asyncio.run(_ask(self.targets[name], photo))


@contextmanager
def system(name: str, weights: Weights, photo: Path, root: Path) -> Iterator[System]:
    """`ours`, or one of the baselines, up and asked once for every set."""
    home = root / name
    home.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        if name == "ours":
            server = stack.enter_context(serve(weights, home / "store"))
            targets = {n: Target(server.url, f"/predict?adapter={n}", str(photo), JPEG) for n in weights.names}
            started = System(name, (server,), targets)
        else:
            started = _baseline(name, weights, photo, home, stack)
        for set_name in weights.names:
            started.maps(set_name, photo)
        yield started


def largest_difference(a: System, b: System, names: tuple[str, ...], photo: Path) -> float:
    """Between the answers of two systems, in units of what rounding may make."""
    return max(
        distance(found, expected[task])
        for name in names
        for expected in [b.maps(name, photo)]
        for task, found in a.maps(name, photo).items()
    )


def _baseline(name: str, weights: Weights, photo: Path, home: Path, stack: contextlib.ExitStack) -> System:
    module = "litserve_server" if name == "litserve" else "swap_server"
    groups = weights.names if name == "processes" else ("",)
    servers = {}
    for only in groups:
        port = free_port()
        command = [sys.executable, "-m", f"benchmarks.baselines.{module}", "--port", str(port)]
        command += [
            "--backbone",
            str(weights.backbone),
            "--sets",
            str(weights.folder),
            *(["--only", only] if only else []),
        ]
        servers[only] = stack.enter_context(Server(command, port, home / f"{only or name}.log", ready="/health"))
    targets = {}
    for set_name in weights.names:
        body = home / f"{set_name}.body"
        body.write_bytes(_form(set_name, photo.read_bytes()))
        targets[set_name] = Target(servers[set_name if name == "processes" else ""].url, "/predict", str(body), FORM)
    return System(name, tuple(servers.values()), targets)


def _form(adapter: str, photo: bytes) -> bytes:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'
    text = f'{part}adapter"\r\n\r\n{adapter}\r\n{part}image"; filename="photo.jpg"\r\nContent-Type: {JPEG}\r\n\r\n'
    return text.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


async def _ask(target: Target, photo: Path) -> dict[str, Png]:
    async with Client(target.url) as client:
        body = Path(target.body or photo).read_bytes()
        reply = await client.request("POST", target.path, body, {"Content-Type": target.content_type or JPEG})
    if reply.status != 200:
        raise RuntimeError(f"{target.url}{target.path}: {reply.status} {reply.body[:300]!r}")
    return {name: pixels(base64.b64decode(task["png"])) for name, task in json.loads(reply.body)["tasks"].items()}
