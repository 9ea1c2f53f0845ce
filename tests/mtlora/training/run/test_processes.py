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
