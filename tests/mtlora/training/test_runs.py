import csv
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from mtlora.prediction.adapted import build_adapted
from mtlora.training.adapters.train import train
from mtlora.training.pretraining.pretrain import pretrain
from mtlora.training.run.checkpoint import load_checkpoint
from mtlora.vocabulary.errors import DataError, TrainingError
from mtlora.vocabulary.spec import AdapterSpec, TaskSpec, palette_classes
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import Backbone, load_backbone, save_backbone
from testing.tiny_dataset import write_dataset
from testing.training_runs import pretrain_config, silent, spec, train_config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("set") / "data")


@pytest.fixture(scope="module")
def pretrained(data: Path) -> Path:
    out = data.parent / "pretrained"
    torch.set_num_threads(1)
    pretrain(pretrain_config(data, out, 24), silent)
    return out


def losses(run: Path) -> list[tuple[str, ...]]:
    """Everything in metrics.csv but the time a step took."""
    with (run / "metrics.csv").open(newline="") as file:
        return [tuple(v for k, v in row.items() if k != "seconds_per_step") for row in csv.DictReader(file)]


def same_tensors(one: Path, two: Path) -> bool:
    a, b = load_checkpoint(one), load_checkpoint(two)
    return all(torch.equal(a[part][name], b[part][name]) for part in ("model", "average") for name in a[part])


def test_pretraining_learns_and_leaves_a_backbone(pretrained: Path) -> None:
    rows = losses(pretrained)
    assert len(rows) == 24
    assert float(rows[-1][2]) < 0.8 * float(rows[0][2])
    backbone = load_backbone(pretrained / "backbone.safetensors")
    assert backbone.spec == spec().backbone
    assert all(torch.isfinite(t).all() for t in backbone.tensors.values())


def test_an_adapter_set_fits_the_backbone_it_was_trained_on(data: Path, pretrained: Path, tmp_path: Path) -> None:
    backbone = pretrained / "backbone.safetensors"
    path = train(train_config(data, backbone, tmp_path / "run", 6, name="tiny", batch=2), silent)
    adapter = load_adapter(path)
    assert adapter.manifest.name == "tiny" and adapter.manifest.provenance["steps"] == 6
    model = build_adapted(load_backbone(backbone), adapter)  # checks the fingerprint
    assert model(torch.zeros(1, 3, 64, 64))[Task.SEMSEG].shape == (1, 21, 64, 64)


def test_frozen_weights_stay_frozen(data: Path, pretrained: Path, tmp_path: Path) -> None:
    backbone = load_backbone(pretrained / "backbone.safetensors")
    train(train_config(data, pretrained / "backbone.safetensors", tmp_path, 2), silent)
    trained = load_checkpoint(tmp_path)["model"]
    for name in backbone.frozen_names(spec()):
        stored = trained.get(f"backbone.{name}", trained.get(f"backbone.{name}".replace(".weight", ".linear.weight")))
        if stored is not None:
            assert torch.equal(stored, backbone.tensors[name])


def test_negative_zeros_of_the_backbone_survive_the_average(data: Path, pretrained: Path, tmp_path: Path) -> None:
    """Averaging turns -0.0 into 0.0; the fingerprint is of bits, so it must come from the file alone."""
    backbone = load_backbone(pretrained / "backbone.safetensors")
    tensors = dict(backbone.tensors)
    tensors["layers.0.blocks.0.mlp.fc1.bias"] = torch.full_like(tensors["layers.0.blocks.0.mlp.fc1.bias"], -0.0)
    path = tmp_path / "backbone.safetensors"
    save_backbone(Backbone(backbone.spec, tensors), path, torch.float16)
    adapter = load_adapter(train(train_config(data, path, tmp_path / "run", 2), silent))
    build_adapted(load_backbone(path), adapter)


def test_decoders_can_start_from_pretraining(data: Path, pretrained: Path, tmp_path: Path) -> None:
    people = palette_classes(("background", "person"))
    tasks = (
        TaskSpec.make(Task.SEMSEG, classes=people, ranks=(2, 2, 2, 2)),
        TaskSpec.make(Task.NORMALS, ranks=(0,) * 4),
    )
    fields = {name: getattr(spec(), name) for name in ("backbone", "image_size", "ranks", "decoder_channels")}
    wanted = AdapterSpec(tasks=tasks, **fields)
    first = {}
    for init in (None, pretrained):
        out = tmp_path / str(init is None)
        train(train_config(data, pretrained / "backbone.safetensors", out, 1, spec=wanted, init=init), silent)
        first[init] = float(losses(out)[0][2])
    assert first[pretrained] < first[None]


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(data: Path, pretrained: Path, tmp_path: Path) -> None:
    """kill -9 after the first checkpoint; then every loss and every tensor must be those of a run left alone."""
    backbone, steps = pretrained / "backbone.safetensors", 24
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    program = [sys.executable, "-m", "testing.training_runs", str(data), str(backbone), str(killed), str(steps)]
    process = subprocess.Popen(program)
    while not (killed / "checkpoint.pt").is_file():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < load_checkpoint(killed)["step"] < steps

    train(train_config(data, backbone, killed, steps), silent, resume=True)
    train(train_config(data, backbone, whole, steps), silent)
    assert losses(killed) == losses(whole)
    assert len(losses(whole)) == steps
    assert same_tensors(killed, whole)


@pytest.mark.slow
def test_interrupted_pretraining_goes_on_as_if_nothing_had_happened(data: Path, tmp_path: Path) -> None:
    """Between checkpoints (every 3 steps), so that steps are done again; Muon's state must come back too."""

    def interrupt(step: int, _steps: int, _losses: dict[str, float]) -> None:
        if step == 8:
            raise KeyboardInterrupt

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with pytest.raises(KeyboardInterrupt):
        pretrain(pretrain_config(data, stopped, 12), interrupt)
    assert load_checkpoint(stopped)["step"] == 6
    pretrain(pretrain_config(data, stopped, 12), silent, resume=True)
    pretrain(pretrain_config(data, whole, 12), silent)
    assert losses(stopped) == losses(whole)
    assert same_tensors(stopped, whole)


@pytest.mark.slow
def test_an_interrupted_command_says_how_to_go_on(data: Path, pretrained: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches the first of two processes here; the others end with it, and there is no traceback."""
    out, backbone = tmp_path / "run", pretrained / "backbone.safetensors"
    command = [sys.executable, "-c", "from mtlora.cli.main import main; main()", "train", "--device", "cpu"]
    command += ["--data", str(data), "--backbone", str(backbone), "--out", str(out), "--cache", str(tmp_path / "cache")]
    command += ["--image-size", "64", "--decoder-channels", "4,4,4,4", "--tasks", "saliency", "--batch", "2"]
    command += ["--processes", "2", "--steps", "100000", "--save-every", "1", "--val-every", "0"]
    # Whoever runs the tests in the background has Ctrl-C ignored, and what is started inherits that.
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    while not (out / "checkpoint.pt").is_file():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert "the same command with --resume goes on from the last checkpoint" in told and "Traceback" not in told


def test_resuming_something_else_is_refused(data: Path, pretrained: Path, tmp_path: Path) -> None:
    backbone = pretrained / "backbone.safetensors"
    train(train_config(data, backbone, tmp_path, 1), silent)
    with pytest.raises(TrainingError, match="already holds a run; go on with --resume"):
        train(train_config(data, backbone, tmp_path, 1), silent)
    with pytest.raises(TrainingError, match=r"batch was 4, now 2; steps was 1, now 2"):
        train(train_config(data, backbone, tmp_path, 2, batch=2), silent, resume=True)


def test_problems_of_the_data_come_before_training(data: Path, pretrained: Path, tmp_path: Path) -> None:
    edge = spec(tasks=(Task.EDGE,))
    with pytest.raises(DataError, match="no photo of split 'train' has a label in edge/"):
        train(train_config(data, pretrained / "backbone.safetensors", tmp_path, 1, spec=edge), silent)
    with pytest.raises(TrainingError, match="3 cannot be shared by 2 processes x 1 steps"):
        train_config(data, pretrained, tmp_path, 1, batch=3, processes=2)
