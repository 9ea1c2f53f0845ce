"""A few seconds of what `make soak` does for minutes: churn, kill -9, restart, every promise looked up."""

from pathlib import Path

from benchmarks.churn.material import random_material
from benchmarks.soak import Options, soak

EVERYTHING = ("upload", "roll", "delete", "fleeting", "answers same", "status 201", "settled after a crash")


def test_every_promise_is_kept_through_churn_and_a_crash(tmp_path: Path) -> None:
    options = Options(6.0, owners=3, users=3, pace_s=0.01, kills=(0.4,), until=EVERYTHING)
    result = soak(random_material(tmp_path), tmp_path, options)
    assert result.violations == []
    assert result.counts["kills"] == 1
