"""Clients in processes of their own: what they find arrives whole."""

from pathlib import Path

import pytest

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


def test_rounds_that_others_spoil_are_repeated() -> None:
    lab, loads = Lab(), iter([0.01, 0.4, 0.02, 0.03])

    def measure(number: int) -> int:
        lab.other_load.append(next(loads))
        return number

    assert lab.rounds(3, measure) == [0, 2, 3]
    assert lab.summary() == {"median": 0.02, "max": 0.03, "spoiled_rounds": 1}


def test_the_least_disturbed_rounds_are_taken_when_none_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    lab, loads = Lab(), iter([0.5, 0.3, 0.2, 0.4, 0.6, 0.7])

    def measure(number: int) -> int:
        lab.other_load.append(next(loads))
        return number

    assert lab.rounds(2, measure) == [1, 2]
    lab.warn()
    assert "others took up to 30% of the machine" in capsys.readouterr().out
