import os
import signal
from pathlib import Path

import pytest
import torch

from mtlora.training.run.processes import ProcessGroup, run_crew
from mtlora.vocabulary.errors import TrainingError


def _add_ranks(group: ProcessGroup, out: Path) -> None:
    total = torch.tensor([1.0 + group.rank])
    group.add_up(total)
    (out / f"rank{group.rank}").write_text(f"{total.item()} {group.any(group.rank == 1)} {group.any(False)}")


@pytest.mark.slow
def test_two_processes_add_up(tmp_path: Path) -> None:
    run_crew(_add_ranks, tmp_path, 2, tmp_path)
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["3.0 True False"] * 2
    with pytest.raises(TrainingError, match="at least one process, got 0"):
        run_crew(_add_ranks, tmp_path, 0, tmp_path)


def test_torchrun_starts_the_processes_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(TrainingError, match="leave --processes at 1, got 2"):
        run_crew(_add_ranks, tmp_path, 2, tmp_path)


def test_every_process_has_a_gpu_of_its_own() -> None:
    assert ProcessGroup(rank=5, processes=8, local_rank=1).device("cuda") == "cuda:1"
    assert ProcessGroup().device("cuda") == "cuda"
    assert ProcessGroup(rank=1, processes=2, local_rank=1).device("cpu") == "cpu"


def _fail_on_purpose(group: ProcessGroup, _argument: object) -> None:
    if group.rank == 1:
        raise TrainingError("the second process cannot go on: do that")
    group.any(False)


def _end_by_signal(group: ProcessGroup, _argument: object) -> None:
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    group.any(False)


@pytest.mark.slow
def test_what_a_process_says_is_what_the_run_says(tmp_path: Path) -> None:
    """In its words, without the traceback of another process; and nothing stays in the folder."""
    with pytest.raises(TrainingError, match=r"^the second process cannot go on: do that$"):
        run_crew(_fail_on_purpose, None, 2, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_process_that_the_system_ends_is_told_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"training process 1 was ended by SIGKILL.*--batch.*--processes 1"):
        run_crew(_end_by_signal, None, 2, tmp_path)
