"""Training on a GPU: mixed precision learns, and an interrupted run goes on exactly."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mtlora.prediction.adapted import build_adapted
from mtlora.training.adapters.train import train
from mtlora.training.run.checkpoint import load_checkpoint
from mtlora.training.run.precision import Precision
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone, save_backbone
from testing.factories import make_backbone
from testing.tiny_dataset import write_dataset
from testing.training_runs import loop, silent, spec, train_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set") / "data")


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    path = tmp_path / "backbone.safetensors"
    save_backbone(make_backbone(spec().backbone), path)
    return path


@pytest.mark.parametrize("precision", Precision)
def test_every_precision_learns_and_leaves_a_set(
    data: Path, backbone: Path, tmp_path: Path, precision: Precision
) -> None:
    found: list[float] = []

    def report(_step: int, _steps: int, losses: dict[str, float]) -> None:
        found.append(losses["loss"])

    config = train_config(
        data, backbone, tmp_path / "run", 20, loop=loop(20, device="cuda", precision=precision, log_every=5)
    )
    path = train(config, report)
    assert found[-1] < found[0]
    adapted = build_adapted(load_backbone(backbone).to("cuda"), load_adapter(path))
    logits = adapted.coarse_logits(torch.zeros(1, 3, 64, 64), (Task.SEMSEG,))[Task.SEMSEG]
    assert logits.isfinite().all()


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two runs without interruption differ too, unless torch is told not to add in any order."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("repeatable")
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(data: Path, backbone: Path, tmp_path: Path) -> None:
    """With dropout and stochastic depth: the GPU's random numbers must come back too."""

    def interrupt(step: int, _steps: int, _losses: dict[str, float]) -> None:
        if step == 8:
            raise KeyboardInterrupt

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    fields = {"loop": loop(12, device="cuda")}
    with pytest.raises(KeyboardInterrupt):
        train(train_config(data, backbone, stopped, 12, **fields), interrupt)
    train(train_config(data, backbone, stopped, 12, **fields), silent, resume=True)
    train(train_config(data, backbone, whole, 12, **fields), silent)
    ours, expected = load_checkpoint(stopped)["model"], load_checkpoint(whole)["model"]
    for name, tensor in expected.items():
        assert torch.equal(ours[name], tensor), name
