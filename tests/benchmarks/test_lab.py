"""Clients in processes of their own: what they find arrives whole."""

from pathlib import Path

from benchmarks.lab import Lab
from mtlora.bench.load import Plan, Stream, Target


def test_failures_survive_the_way_between_processes(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"nobody looks at it")
    nobody = Stream("nobody", (Target("http://127.0.0.1:9"),), rate=50)  # the discard port: nothing listens there
    report = Lab().load(Plan(str(photo), (nobody,), seconds=0.5, warmup_s=0.0))["nobody"]
    assert report.latency_ms == []
    assert all(isinstance(what, str) for what in report.failures)
    assert sum(report.failures.values()) == report.sent > 0
