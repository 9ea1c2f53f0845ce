"""A server whose store lies on a really full disk: 507, nothing changed, predictions go on, sets can be deleted."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from testing.serving import ServerProcess, Weights, encoded, picture, wait_until

PHOTO = encoded(picture(), "JPEG")
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(weights: Weights, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(disk)  # the log lies beside the link, not on the disk
    store = tmp_path / "link"
    server = ServerProcess(weights, store, log_level="error")
    try:
        server.wait_ready()
        with httpx.Client(base_url=server.url, timeout=60) as client:

            def upload(name: str, content: str) -> int:
                return client.post(
                    "/adapters", files={"file": weights.upload(content)}, data={"name": name}
                ).status_code

            assert [upload("a", "cats"), upload("a", "dogs"), upload("b", "cats")] == [201] * 3
            with pytest.raises(OSError, match="No space left"), (disk / "filler").open("wb") as filler:
                while True:
                    filler.write(os.urandom(4096))
                    filler.flush()
            before = client.get("/adapters").json()
            assert upload("c", "birds") == 507
            assert upload("a", "birds") == 507
            assert client.get("/adapters").json() == before
            assert not list((disk / "incoming").iterdir())
            answer = client.post("/predict?adapter=a", content=PHOTO, headers=JPEG)
            assert answer.status_code == 200
            assert client.put("/adapters/a/current", json={"revision": 1}).status_code == 200
            assert client.delete("/adapters/b").status_code == 204
            assert client.delete("/adapters/a").status_code == 204
            wait_until(lambda: not list((disk / "sets").rglob("*.safetensors")))
            assert upload("c", "birds") == 201
    finally:
        server.stop()
