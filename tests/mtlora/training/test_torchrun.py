"""The trainer under torchrun: two CPU processes with gloo compute what one does on the whole batch."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtlora.training.adapters.train import train
from mtlora.training.run.checkpoint import load_checkpoint
from mtlora.weights.backbone import save_backbone
from testing.factories import backbone_spec, make_backbone
from testing.tiny_dataset import write_dataset
from testing.training_runs import repeatable, silent

STEPS = 4


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    """Labels are missing for some photos, so that a mean of means would not do."""
    data, backbone = write_dataset(tmp_path / "data"), tmp_path / "backbone.safetensors"
    for name in ("semseg/photo0.png", "normals/photo1.png", "saliency/photo2.png", "human_parts/photo3.png"):
        (data / name).unlink()
    save_backbone(make_backbone(backbone_spec(window_size=2)), backbone, torch.float16)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    train(repeatable(data, backbone, alone, STEPS), silent)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "testing.training_runs", str(data), str(backbone), str(shared), str(STEPS), "repeatable"]
    done = subprocess.run(command, env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"}, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    one, two = losses(alone), losses(shared)
    assert len(one) == len(two) == STEPS
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=2e-4)
    assert (shared / "adapter.safetensors").is_file()
    a, b = load_checkpoint(alone)["model"], load_checkpoint(shared)["model"]
    statistics = [name for name in a if name.endswith("running_mean")]
    for name in statistics:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)


def losses(run: Path) -> list[list[float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [[float(v) for k, v in row.items() if k != "seconds_per_step"] for row in csv.DictReader(file)]
