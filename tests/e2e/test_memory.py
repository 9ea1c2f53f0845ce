"""Memory of a server process over many loads and unloads of different sets."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import save_backbone
from testing.factories import adapter_spec, backbone_spec, make_backbone
from testing.serving import ServerProcess, Weights, write_set

CYCLES = 1000
SETTLED = 50  # cycles until templates, pools and the allocator have what they need
GROWTH = 0.02


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Sets of some MiB on the device, of three shapes, so that what leaks or fragments shows in 1,000 cycles."""
    root = tmp_path_factory.mktemp("medium")
    weights = Weights(root, root / "backbone.safetensors", root / "bundled", root / "uploads")
    spec = backbone_spec(embed_dim=24, num_heads=(2, 2, 4, 8))
    backbone = make_backbone(spec)
    save_backbone(backbone, weights.backbone)
    for seed, name in enumerate(("default", "a", "b", "c", "d", "e", "f"), start=1):
        rank = 2 + seed % 3
        shape = adapter_spec(spec, tasks=(Task.SEMSEG, Task.SALIENCY), ranks=(rank,) * 4)
        write_set(weights.bundled / f"{name}.safetensors", backbone, shape, seed)
    return weights


@pytest.fixture
def server(medium: Weights, tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(medium, tmp_path / "store", form="merged", loader_threads=2, log_level="error")
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


def rss_bytes(server: ServerProcess) -> int:
    (kib,) = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads resident memory from /proc")
def test_a_thousand_loads_and_unloads_leave_memory_where_it_was(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:

        def metric(name: str) -> float:
            lines = client.get("/metrics").text.splitlines()
            return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))

        empty = metric('mtlora_adapter_bytes{tier="device"}'), metric('mtlora_adapter_bytes{tier="host"}')
        settled = 0
        for cycle in range(1, CYCLES + 1):
            name = "abcdef"[cycle % 6]
            assert client.post(f"/adapters/{name}/load").status_code == 200
            assert client.post(f"/adapters/{name}/unload").json()["tier"] == "disk"
            if cycle == SETTLED:
                settled = rss_bytes(server)
        assert rss_bytes(server) <= settled * (1 + GROWTH)
        assert (metric('mtlora_adapter_bytes{tier="device"}'), metric('mtlora_adapter_bytes{tier="host"}')) == empty
        assert metric('mtlora_adapter_loads_total{result="ok",tier="host"}') >= CYCLES  # each was really read again
        assert metric('mtlora_adapter_evictions_total{reason="unload",tier="device"}') == CYCLES
        assert metric("process_resident_memory_bytes") == pytest.approx(rss_bytes(server), rel=0.02)
