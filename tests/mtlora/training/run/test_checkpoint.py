from pathlib import Path

import pytest
import torch

from mtlora.training.run.checkpoint import MetricsLog, load_checkpoint, save_checkpoint
from mtlora.vocabulary.errors import TrainingError


def test_round_trip_and_no_leftovers(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step, "model": {"w": torch.full((2,), float(step))}})
    state = load_checkpoint(tmp_path)
    assert state["step"] == 2 and state["model"]["w"].tolist() == [2.0, 2.0]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not exist"):
        load_checkpoint(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"torn off")
    with pytest.raises(TrainingError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path)
    torch.save({"weights": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="has no step"):
        load_checkpoint(tmp_path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"step": 1, "evil": _Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="cannot be read"):
        load_checkpoint(tmp_path)
    assert "run" not in capsys.readouterr().out


def test_a_resumed_log_forgets_what_comes_after_the_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, ["step", "loss"], 0)
    for step in (10, 20, 30):
        log.write({"step": step, "loss": step / 10})
    resumed = MetricsLog(tmp_path, ["step", "loss"], 20)
    resumed.write({"step": 30, "loss": 9.0})
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["step,loss", "10,1.0", "20,2.0", "30,9.0"]


def test_a_row_torn_by_a_kill_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n10,1.0\n20")
    MetricsLog(tmp_path, ["step", "loss"], 20)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,loss", "10,1.0"]
