"""A server process that runs out of file descriptors says so once, does not spin, and goes on when there are some."""

import os
import resource
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

from testing.serving import ServerProcess, Weights, wait_until


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_out_of_descriptors(weights: Weights, tmp_path: Path) -> None:
    server = ServerProcess(weights, tmp_path / "store")
    pid = server.process.pid
    held: list[socket.socket] = []

    def shortages() -> int:
        return sum(line["message"].startswith("cannot take connections") for line in server.logged())

    def processor_s() -> float:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    try:
        server.wait_ready()
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        open_now = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 4, before[1]))
        held = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(120)]
        wait_until(lambda: shortages() == 1)
        began = processor_s()
        time.sleep(3)  # three more attempts
        assert processor_s() - began < 1.5
        assert shortages() == 1
        assert len(server.log.read_text().splitlines()) < 50
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for sock in held:
            sock.close()
        assert httpx.get(f"{server.url}/livez", timeout=30).status_code == 200
        assert server.stop() == 0
    finally:
        for sock in held:
            sock.close()
        server.kill()
