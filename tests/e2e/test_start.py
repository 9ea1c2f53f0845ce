"""What a start says: to a person at a terminal, to a log collector, and when it fails after all."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

from mtlora.weights.backbone import save_backbone
from testing.factories import make_backbone
from testing.serving import START_TIMEOUT_S, ServerProcess, Weights

MAIN = "from mtlora.cli.main import main; main()"


def test_a_person_is_told_where_to_look(weights: Weights, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAIN, "serve", "--port", "0", "--store", str(tmp_path / "store")]
    command += ["--backbone", str(weights.backbone), "--adapters", str(weights.bundled)]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    with (
        subprocess.Popen(command, stderr=theirs, env=environment) as process,
        os.fdopen(ours, encoding="utf-8") as terminal,
    ):
        os.close(theirs)
        said = []
        try:
            for line in terminal:
                said.append(line.strip()[len("2030-01-31 00:00:00 ") :])
                if "ready" in line:
                    break
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert said[0] == "info    starting: importing torch …"
    port = re.fullmatch(r"info    listening host=127\.0\.0\.1 port=(\d+)", said[1])
    assert port is not None
    name = make_backbone().spec.name
    assert said[-1] == f"info    ready: open http://127.0.0.1:{port[1]}/ — 2 adapter sets, {name}, on the CPU"
    assert not any("vicorn" in line or "startup" in line for line in said)


def test_a_collector_is_told_the_same(weights: Weights, tmp_path: Path) -> None:
    server = ServerProcess(weights, tmp_path / "store")
    try:
        server.wait_ready()
        assert server.stop() == 0
    finally:
        server.kill()
    lines = {line["message"]: line for line in server.logged()}
    assert len(server.logged()) == len(server.log.read_text().splitlines())
    assert lines["ready"]["url"] == f"{server.url}/"
    assert (lines["ready"]["adapters"], lines["ready"]["device"]) == (2, "cpu")
    assert list(lines)[:2] == ["starting", "listening"]
    assert list(lines)[-2:] == ["draining", "stopped"]


def test_what_only_the_weights_tell_ends_the_start_with_one_line(weights: Weights, tmp_path: Path) -> None:
    """Another backbone of the same shape: nothing but its numbers is wrong."""
    save_backbone(make_backbone(seed=5), tmp_path / "other.safetensors")
    server = ServerProcess(weights, tmp_path / "store", backbone=tmp_path / "other.safetensors")
    assert server.process.wait(START_TIMEOUT_S) == 2
    errors = [line for line in server.logged() if line["message"] == "cannot start"]
    assert len(errors) == 1
    assert "frozen weights: the set needs" in errors[0]["reason"]
    assert "Traceback" not in server.log.read_text()
