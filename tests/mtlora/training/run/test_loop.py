from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlora.data.sampling import step_generator
from mtlora.training.run.loop import LoopConfig, Part, Trainer, run_loop
from mtlora.training.run.precision import Precision
from mtlora.training.run.processes import ProcessGroup
from mtlora.vocabulary.errors import TrainingError


class Line:
    """Fits y = 3 x; `poison` multiplies the loss from that step on."""

    loss_names = ("loss",)
    batch = 16

    def __init__(self, poison: int = 10**9, factor: float = float("inf"), parts: int = 1) -> None:
        self.model = nn.Linear(1, 1)
        self._poison, self._factor, self._parts = poison, factor, parts

    def parts(self, step: int) -> list[Part]:
        x = torch.rand(16, 1, generator=step_generator(0, step))
        factor = self._factor if step >= self._poison else 1.0
        return [lambda part=part: self._losses(part, factor) for part in x.chunk(self._parts)]

    def _losses(self, x: Tensor, factor: float) -> dict[str, Tensor]:
        return {"loss": (self.model(x) - 3 * x).square().sum() / 16 * factor}


def trainer(job: Line, **changes: object) -> Trainer:
    fields: dict[str, Any] = {"steps": 60, "lr": 0.1, "save_every": 20, "log_every": 5, "tensorboard": False} | changes
    optimizer = torch.optim.SGD(job.model.parameters(), lr=0.1)
    return Trainer(job, [optimizer], LoopConfig(**fields), {"what": "line"}, ProcessGroup())


def test_reports_means_and_learns(tmp_path: Path) -> None:
    seen: list[tuple[int, int, dict[str, float]]] = []
    run_loop(trainer(Line()), tmp_path, lambda *told: seen.append(told), resume=False)
    assert [s for s, _, _ in seen] == [1, 3, *range(5, 61, 5)]  # two early ones, so that the time left is known
    assert seen[-1][2]["loss"] < seen[0][2]["loss"] / 3
    assert seen[0][2]["lr"] == pytest.approx(0.1, rel=0.1) and seen[0][2]["images_per_s"] > 0


def test_an_infinite_loss_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss is inf at step 43; the last good checkpoint, of step 40, is in"):
        run_loop(trainer(Line(poison=42)), tmp_path, lambda *_: None, resume=False)
    resumed = trainer(Line())
    run_loop(resumed, tmp_path, lambda *_: None, resume=True)
    assert resumed.step == 60


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    job = Line()
    before = job.model.weight.detach().clone()
    job.model.weight.register_hook(lambda g: g * float("nan"))
    with pytest.raises(TrainingError, match=r"its gradient nan at step 1; start again with a smaller learning rate"):
        run_loop(trainer(job), tmp_path, lambda *_: None, resume=False)
    assert torch.equal(job.model.weight, before)


def test_a_loss_that_runs_away_stops_the_run(tmp_path: Path) -> None:
    """From step 21 the loss is 2,000 times what it was: the checkpoint of step 20 stays."""
    with pytest.raises(
        TrainingError, match=r"the loss runs away: .* at the start; the last good checkpoint, of step 20"
    ):
        run_loop(trainer(Line(poison=20, factor=2000.0), clip=1e-6), tmp_path, lambda *_: None, resume=False)


def test_weights_that_are_getting_worse_replace_no_checkpoint(tmp_path: Path) -> None:
    t = trainer(Line())
    t.guard.seen, t.guard.first, t.guard.level = 10, 1e-6, 1e-6
    with pytest.raises(TrainingError, match="there is no checkpoint yet"):
        run_loop(t, tmp_path, lambda *_: None, resume=False)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_no_file_could_hold_stop_the_run(tmp_path: Path) -> None:
    """The loss may look fine then, for BatchNorm undoes the size of what it is given."""
    line = Line()
    t = trainer(line)
    run_loop(t, tmp_path, lambda *_: None, resume=False)
    line.model.weight.data.fill_(1e5)
    grown = Line()
    more = trainer(grown, save_every=1)
    more.job.model.load_state_dict(t.job.model.state_dict())
    with pytest.raises(TrainingError, match=r"values of weight have grown to 1e\+05 by step 3, above the 65504 that"):
        more.guard.keep(3, more.job.model.state_dict())
    grown.model.bias.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"weight \(and 1 more tensors\)"):
        more.guard.keep(3, more.job.model.state_dict())


def test_accumulated_parts_are_the_whole_batch() -> None:
    runs = []
    for parts in (1, 4):
        torch.manual_seed(1)
        t = trainer(Line(parts=parts))
        runs.append([t.advance()["loss"] for _ in range(8)])
    assert runs[0] == pytest.approx(runs[1], rel=1e-5)


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    line = Line()
    t = trainer(line, ema_decay=0.5)
    run_loop(t, tmp_path, lambda *_: None, resume=False)
    torch.testing.assert_close(t.average["weight"], line.model.weight.detach(), rtol=0.1, atol=0.1)


def test_a_checkpoint_from_before_a_setting_existed_fits_while_it_is_off(tmp_path: Path) -> None:
    run_loop(trainer(Line(), steps=20), tmp_path, lambda *_: None, resume=False)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["guard"]
    torch.save(state, tmp_path / "checkpoint.pt")
    resumed = trainer(Line(), steps=20, log_every=3)  # intervals may change
    run_loop(resumed, tmp_path, lambda *_: None, resume=True)
    assert resumed.step == 20


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"warmup": 61}, "warmup must be within the 60 steps, got 61"),
        ({"lr": 0.0, "hold": 2.0}, r"lr must be above 0 and below 10, got 0.0; hold must be within 0..1, got 2.0"),
        ({"ema_decay": 1.0}, "ema_decay must be from 0 to below 1, got 1.0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        trainer(Line(), **changes)


def test_precision_fits_the_device() -> None:
    with pytest.raises(TrainingError, match="float16 needs a GPU, got device cpu"):
        trainer(Line(), precision=Precision.FLOAT16)
    job = Line()
    seen: list[torch.dtype] = []
    job.model.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    trainer(job, precision=Precision.BFLOAT16).advance()
    assert seen == [torch.bfloat16] and job.model.weight.dtype is torch.float32
