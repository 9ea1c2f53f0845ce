"""A run that would teach nothing, or cannot be written, does not begin."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mtlora.cli.main import cli
from mtlora.training.adapters.beginning import check_folder, check_labels
from mtlora.training.adapters.config import Validation
from mtlora.training.adapters.train import open_cache
from mtlora.vocabulary.errors import DataError, MTLoRAError, TrainingError
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import save_backbone
from testing.factories import backbone_spec, make_backbone
from testing.tiny_dataset import SIZE, write_dataset
from testing.training_runs import spec, train_config


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    path = tmp_path / "backbone.safetensors"
    save_backbone(make_backbone(backbone_spec(window_size=2)), path, torch.float32)
    return path


def masks(data: Path, *values: int) -> None:
    """Every semseg label has these values, a band of each."""
    label = np.repeat(np.array(values, np.uint8), SIZE[1] // len(values))
    for path in (data / "semseg").iterdir():
        Image.fromarray(np.repeat(label[:, None], SIZE[0], axis=1)).save(path)


def dry_run(data: Path, backbone: Path, *more: str) -> BaseException | None:
    arguments = ["train", "--data", str(data), "--backbone", str(backbone), "--tasks", "semseg", "--device", "cpu"]
    arguments += ["--out", str(data.parent / "run"), "--cache", str(data.parent / "cache"), "--image-size", "64"]
    arguments += ["--decoder-channels", "4,4,4,4", "--batch", "2", "--steps", "1", "--warmup", "0", "--dry-run"]
    return CliRunner().invoke(cli, [*arguments, *more]).exception


def test_what_labels_do_not_show_is_told(data: Path, backbone: Path) -> None:
    config = train_config(data, backbone, data / "run", 1, spec=spec((Task.SEMSEG,)))
    (line,) = check_labels(config, open_cache(config))
    assert line.startswith("semseg labels never show aeroplane, ") and line.endswith("and 11 more")


@pytest.mark.parametrize(
    ("values", "classes", "told"),
    [
        ((0, 255), "background,thing", "Are these 0/255 masks"),
        ((0, 0), "background,thing", "labels show only background"),
        ((0, 2), "background,thing", "labels hold 2, but the set has classes 0..1"),
    ],
)
def test_labels_that_teach_nothing_are_refused_before_the_first_step(
    data: Path, backbone: Path, values: tuple[int, int], classes: str, told: str
) -> None:
    masks(data, *values)
    error = dry_run(data, backbone, "--semseg-classes", classes)
    assert isinstance(error, DataError) and told in str(error)
    assert not list((data.parent / "run").iterdir())


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--name", "My Leaf", "a-z 0-9 . _ -"),
        ("--name", "x" * 65, "at most 64"),
        ("--semseg-classes", "background,background", "two classes are called 'background'"),
        ("--semseg-classes", "background,stem", "has no stem, only background, leaf"),
        ("--semseg-classes", "3", "names 2 classes"),
    ],
)
def test_names_are_refused_before_the_first_step(
    data: Path, backbone: Path, option: str, value: str, told: str
) -> None:
    masks(data, 0, 1)
    (data / "classes.txt").write_text("background\nleaf\n")
    error = dry_run(data, backbone, option, value)
    assert isinstance(error, MTLoRAError) and told in str(error)
    assert not (data.parent / "cache").exists()


def test_folders_are_refused_before_the_first_step(data: Path, backbone: Path) -> None:
    (data.parent / "run").write_text("a file")
    error = dry_run(data, backbone)
    assert isinstance(error, TrainingError) and "cannot be the folder of a run" in str(error)
    (data.parent / "run").unlink()
    (data.parent / "run").mkdir()
    (data.parent / "run" / "checkpoint.pt").touch()
    error = dry_run(data, backbone)
    assert isinstance(error, TrainingError) and "already holds a run" in str(error)
    check_folder(train_config(data, backbone, data.parent / "run", 1), resume=True)


def test_labels_of_the_validation_split_are_looked_at_too(data: Path, backbone: Path) -> None:
    (data / "ImageSets" / "train.txt").write_text("photo0\nphoto1\n")
    (data / "ImageSets" / "val.txt").write_text("photo2\n")
    Image.new("L", (SIZE[1], SIZE[1])).save(data / "semseg" / "photo2.png")
    config = train_config(data, backbone, data / "run", 1, spec=spec((Task.SEMSEG,)), validation=Validation(every=1))
    with pytest.raises(DataError, match=r"labels of split 'val' do not fit their photos"):
        check_labels(config, open_cache(config))
