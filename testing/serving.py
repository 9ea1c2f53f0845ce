"""Servers for tests: tiny random weights, a server in a thread of this process, a server process of its own."""

import faulthandler
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from PIL import Image

from app.composition.service import Service
from app.main import create_app
from app.server import http_config
from app.startup.settings import Settings
from mtlora.vocabulary.policy import Policy, PolicyMode
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterManifest, save_adapter, write_adapter
from mtlora.weights.backbone import Backbone, save_backbone
from testing.factories import PASCAL_TASKS, adapter_spec, backbone_spec, make_backbone, make_model
from testing.policies import pooled, with_policy

START_TIMEOUT_S = 180.0  # a busy machine imports torch slowly


@dataclass(frozen=True)
class Weights:
    """A folder with a backbone and bundled sets, and files to upload."""

    root: Path
    backbone: Path
    bundled: Path
    uploads: Path

    def upload(self, name: str) -> bytes:
        return (self.uploads / f"{name}.safetensors").read_bytes()


def write_set(
    path: Path, backbone: Backbone, spec: AdapterSpec, seed: int, name: str = "", *, times: float = 1.0
) -> bytes:
    """A random, valid adapter file; `times` makes its numbers large."""
    tensors = {key: t * times for key, t in make_model(backbone, spec, seed=seed).adapter_tensors().items()}
    save_adapter(
        path,
        spec,
        tensors,
        backbone_name=backbone.spec.name,
        backbone_fingerprint=backbone.fingerprint(spec),
        name=name,
        dtype=torch.float32 if times > 1 else torch.float16,
    )
    return path.read_bytes()


def write_gated(path: Path, backbone: Backbone, spec: AdapterSpec) -> None:
    """A random set with a policy of blocks and windows."""
    policy = pooled(mode=PolicyMode.PER_TASK)
    model = with_policy(backbone, spec, policy)
    manifest = AdapterManifest(
        format_version=2,
        name="gated",
        spec=spec,
        backbone_name=backbone.spec.name,
        backbone_fingerprint=backbone.fingerprint(spec),
        policy=Policy(**policy.model_dump()),
    )
    write_adapter(path, manifest, model.adapter_tensors() | model.policy_tensors(), torch.float32)


def make_weights(root: Path) -> Weights:
    """default: four tasks; people: human parts and saliency. To upload: cats, dogs, birds; gated (with a policy);
    overflow (finite numbers that give infinite maps); foreign and wider (other backbones)."""
    weights = Weights(root, root / "backbone.safetensors", root / "bundled", root / "uploads")
    weights.uploads.mkdir()
    backbone = make_backbone()
    save_backbone(backbone, weights.backbone)
    write_set(weights.bundled / "default.safetensors", backbone, adapter_spec(tasks=PASCAL_TASKS), 1)
    write_gated(weights.uploads / "gated.safetensors", backbone, adapter_spec(tasks=PASCAL_TASKS))
    people = adapter_spec(tasks=(Task.HUMAN_PARTS, Task.SALIENCY))
    write_set(weights.bundled / "people.safetensors", backbone, people, 2)
    for seed, name in enumerate(("cats", "dogs", "birds"), start=3):
        write_set(weights.uploads / f"{name}.safetensors", backbone, adapter_spec(tasks=(Task.SEMSEG,)), seed, name)
    normals = adapter_spec(tasks=(Task.NORMALS, Task.SALIENCY))
    write_set(weights.uploads / "overflow.safetensors", backbone, normals, 7, "overflow", times=1e25)
    write_set(weights.uploads / "unnamed.safetensors", backbone, people, 9)
    write_set(weights.uploads / "foreign.safetensors", make_backbone(seed=5), people, 2, "foreign")
    wider = make_backbone(backbone_spec(embed_dim=16, num_heads=(2, 2, 4, 4)))
    write_set(
        weights.uploads / "wider.safetensors", wider, adapter_spec(wider.spec, tasks=(Task.SALIENCY,)), 2, "wider"
    )
    return weights


def settings_for(weights: Weights, store: Path, **changes: Any) -> Settings:
    """Settings of a small server on a free port."""
    fields: dict[str, Any] = {
        "backbone": weights.backbone,
        "adapters": weights.bundled,
        "store": store,
        "port": 0,
        "engine_threads": 1,
        "codec_threads": 1,
        "decoders": 1,
        "log_level": "error",
        "grace_s": 5,
    }
    return Settings(**(fields | changes))


class _ThreadServer(uvicorn.Server):
    """Knows its port; leaves the signals of the test process alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Live:
    """A server in a thread of this process, with its insides in reach."""

    url: str
    service: Service
    client: httpx.Client
    server: uvicorn.Server


@contextmanager
def live_app(
    settings: Settings, *, ready: bool = True, prepare: Callable[[Service], None] | None = None
) -> Iterator[Live]:
    """A real uvicorn on a loopback port, stopped on leaving."""
    app = create_app(settings)
    service: Service = app.state.service
    if prepare is not None:
        prepare(service)
    server = _ThreadServer(http_config(app, settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, START_TIMEOUT_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            if ready:
                _wait_ready(client)
            yield Live(f"http://127.0.0.1:{port}", service, client, server)
    finally:
        server.should_exit = True
        thread.join(20)


def _wait_ready(client: httpx.Client) -> None:
    """Until the server is warm. Says what every thread is at if it never is: it is in this process."""

    def ready() -> bool:
        try:
            return client.get("/readyz", timeout=5).status_code == 200
        except httpx.TransportError:  # a crowded machine
            return False

    try:
        wait_until(ready, START_TIMEOUT_S)
    except TimeoutError:
        faulthandler.dump_traceback(sys.stderr if sys.__stderr__ is None else sys.__stderr__)
        raise


def metric(live: Live, name: str) -> float:
    """What `/metrics` shows now for a series, labels as written there."""
    lines = live.client.get("/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))


class ServerProcess:
    """`mtlora serve` as a process of its own."""

    def __init__(self, weights: Weights, store: Path, *, bucket: object = "", **flags: object) -> None:
        """bucket: address of a store that is no folder; `store` then names the log only."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = store.with_suffix(".log")
        given = {
            "port": self.port,
            "store": bucket or store,
            "backbone": weights.backbone,
            "adapters": weights.bundled,
            **flags,
        }
        arguments = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from mtlora.cli.main import main; main()", "serve", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait_ready(self) -> None:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
            try:
                return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, START_TIMEOUT_S)

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def stop(self, timeout_s: float = 30) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


def free_port() -> int:
    """Free until a server process listens there, seconds later: below those that systems give to connections, and a
    random one, for other processes run tests too."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Poll until it holds; fails the test if it does not in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"condition did not hold within {timeout_s} s")
        time.sleep(0.01)


def picture(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    """A photo with some structure: a gradient, a disc, noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    disc = ((x - width / 2) ** 2 + (y - height / 3) ** 2 < (height / 4) ** 2)[..., None]
    base = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=-1)
    values = np.where(disc, [230, 40, 60], base) + rng.normal(0, 10, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
