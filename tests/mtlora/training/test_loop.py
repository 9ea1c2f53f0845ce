from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from mtlora.errors import TrainingError
from mtlora.training.loop import LoopConfig, Trainer, run_loop
from mtlora.training.processes import Crew


class Line:
    """Fits y = 3 x; `poison` makes the loss infinite from that step on."""

    loss_names = ("loss",)

    def __init__(self, poison: int = 10**9) -> None:
        self.model = nn.Linear(1, 1)
        self._left = poison

    def losses(self, generator: Generator) -> dict[str, Tensor]:
        x = torch.rand(16, 1, generator=generator)
        self._left -= 1
        loss = (self.model(x) - 3 * x).square().mean()
        return {"loss": loss if self._left >= 0 else loss * float("inf")}


def trainer(job: Line, **changes: float) -> Trainer:
    fields = {"steps": 60, "lr": 0.1, "save_every": 20, "log_every": 5} | changes
    optimizer = torch.optim.SGD(job.model.parameters(), lr=0.1)
    return Trainer(job, [optimizer], LoopConfig(**fields), {"what": "line"}, Crew())


def test_reports_means_and_learns(tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    run_loop(trainer(Line()), tmp_path, lambda s, n, m: seen.append((s, n, m["loss"])), resume=False)
    assert [s for s, _, _ in seen] == list(range(5, 61, 5))
    assert seen[-1][2] < seen[0][2] / 3


def test_an_infinite_loss_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss is inf at step 43"):
        run_loop(trainer(Line(poison=42)), tmp_path, lambda *_: None, resume=False)
    resumed = trainer(Line())
    run_loop(resumed, tmp_path, lambda *_: None, resume=True)
    assert resumed.step == 60


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    t = trainer(Line(), ema_decay=0.5)
    run_loop(t, tmp_path, lambda *_: None, resume=False)
    torch.testing.assert_close(t.average["weight"], t.job.model.weight.detach(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"warmup": 61}, {"lr": 0.0}, {"ema_decay": 1.0}, {"hold": 2.0}])
def test_impossible_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=r"do not fit together|out of range"):
        trainer(Line(), **changes)
