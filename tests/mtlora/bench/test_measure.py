"""`mtlora bench` against a stub whose latency is known."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtlora.bench import measure as measuring
from mtlora.bench.load import StreamReport
from mtlora.bench.measure import Load, Measured, measure
from mtlora.cli.main import cli
from mtlora.vocabulary.errors import RefusedError, RemoteError
from testing.stub_server import Say, Stub, problem

DELAY_S = 0.05


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "IDLE_S", 0.6)
    monkeypatch.setattr(measuring, "WARM_UP_S", 0.1)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"not looked at")
    return path


def answer() -> Say:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("result.json", "{}")
    return Say(200, buffer.getvalue(), after_s=DELAY_S)


def test_ratios_to_an_idle_server(stub: Stub, photo: Path) -> None:
    stub.script = [answer()]
    load = Load(url=stub.url, photo=photo, adapters=("cats", "dogs@2"), tasks="semseg", rate=30, seconds=2)
    found = measure(load, key="secret").document()
    assert 1 <= found["idle_ms"] / (1e3 * DELAY_S) < 2
    assert found["sent"] == found["answered"] > 20
    assert found["answered_share"] == 1.0
    assert found["throughput_of_rate"] == pytest.approx(1, rel=0.4)
    assert found["latency_of_idle"]["p50"] == pytest.approx(found["latency_ms"]["p50"] / found["idle_ms"], rel=0.02)
    assert {asked.path for asked in stub.asked} == {
        "/predict?tasks=semseg&adapter=cats",
        "/predict?tasks=semseg&adapter=dogs%402",
    }
    assert {asked.headers["Authorization"] for asked in stub.asked} == {"Bearer secret"}


def test_without_a_rate_half_of_what_is_answered_one_by_one(stub: Stub, photo: Path) -> None:
    stub.script = [answer()]
    found = measure(Load(url=stub.url, photo=photo, seconds=1))
    assert found.rate == pytest.approx(500 / found.idle_ms)


def test_refusals_are_counted_and_are_no_latencies(stub: Stub, photo: Path) -> None:
    stub.script = [answer()] * 40 + [problem(429)]
    found = measure(Load(url=stub.url, photo=photo, rate=40, seconds=2)).document()
    assert found["failures"]["429"] + found["answered"] == found["sent"]
    assert 0 < found["answered_share"] < 1


def test_a_server_that_answers_nothing(stub: Stub, photo: Path) -> None:
    stub.script = [problem(503)]
    with pytest.raises(RemoteError, match=r"answered none of \d+ requests: 503 \(\d+\)"):
        measure(Load(url=stub.url, photo=photo))
    with pytest.raises(RemoteError, match="got -1"):
        Load(url=stub.url, photo=photo, seconds=-1)


def test_a_late_generator_is_said() -> None:
    latencies = StreamReport(2, [10.0, 10.0], [0.1, 0.2])
    assert Measured(1, 10, 5, latencies, lag_p99_ms=0.9, cpu_share=0.1).trustworthy
    assert not Measured(1, 10, 5, latencies, lag_p99_ms=1.1, cpu_share=0.1).trustworthy
    assert not Measured(1, 10, 5, StreamReport(), lag_p99_ms=0, cpu_share=0.1).trustworthy


def test_the_command(stub: Stub) -> None:
    stub.script = [answer()]
    result = CliRunner().invoke(cli, ["bench", stub.url, "--seconds", "1", "--rate", "20"])
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()[:4]] == ["rate", "idle", "answered", "throughput"]
    assert "p99 / p50" in result.stdout
    stub.script = [problem(404, "adapter-not-found")]
    stub.asked.clear()
    refused = CliRunner().invoke(cli, ["bench", stub.url, "--adapter", "nobody"])
    assert isinstance(refused.exception, RefusedError)
    assert len(stub.asked) == 1


def test_without_torch(stub: Stub) -> None:
    stub.script = [answer()]
    script = "import sys;from mtlora.cli.main import cli; cli(standalone_mode=False); sys.exit('torch' in sys.modules)"
    process = [sys.executable, "-c", script, "bench", stub.url, "--seconds", "1", "--rate", "20", "--json"]
    finished = subprocess.run(process, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["answered"] > 0
