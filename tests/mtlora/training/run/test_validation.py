"""What a look at the validation split says; runs that look are in `adapters/test_train_options.py`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlora.evaluation.evaluate import TaskReport, evaluate
from mtlora.training.adapters.config import Validation
from mtlora.training.adapters.train import said_of, train
from mtlora.training.run.checkpoint import load_checkpoint
from mtlora.training.run.validation import class_scores, headlines, remarks
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import save_backbone
from testing.factories import backbone_spec, make_backbone
from testing.tiny_dataset import write_dataset
from testing.training_runs import spec, train_config

LEAF = TaskReport(3, {"miou": 0.4, "iou/background": 0.8, "iou/leaf": 0.0, "iou/stem": math.nan}, {}, "predicts only x")


def test_a_line_has_every_class() -> None:
    normals = TaskReport(3, {"mean_deg": 20.0}, {})
    reports = {Task.SEMSEG: LEAF, Task.NORMALS: normals}
    assert headlines(reports) == {Task.SEMSEG: 0.4, Task.NORMALS: 20.0}
    assert class_scores(reports) == {"semseg/iou/background": 0.8, "semseg/iou/leaf": 0.0}
    assert remarks(reports) == ["semseg: predicts only x"]


@pytest.mark.parametrize("missed", [0, 5])
def test_of_many_classes_it_has_how_many_are_missed(missed: int) -> None:
    scores = {f"iou/c{index}": 0.0 if index < missed else 0.5 for index in range(21)}
    assert class_scores({Task.SEMSEG: TaskReport(3, {"miou": 0.1} | scores, {})}) == {"semseg/classes_at_0": missed}


def test_of_equal_weights_the_later_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of 0.5, 0.6, 0.6 and 0.4 at steps 1 to 4; what was said of the weights that are kept is kept too."""
    scores, told = iter([0.5, 0.6, 0.6, 0.4]), []

    def scripted(*arguments: Any) -> dict[Task, TaskReport]:
        report, score = evaluate(*arguments)[Task.SEMSEG], next(scores)
        return {Task.SEMSEG: replace(report, scores=report.scores | {"miou": score}, remark=f"scored {score}")}

    monkeypatch.setattr("mtlora.training.run.validation.evaluate", scripted)
    save_backbone(make_backbone(backbone_spec(window_size=2)), tmp_path / "backbone.safetensors", torch.float32)
    data, watched = write_dataset(tmp_path / "data"), Validation(every=1, photos=1)
    config = train_config(data, tmp_path / "backbone.safetensors", tmp_path / "run", 4, validation=watched, batch=2)
    config = replace(config, spec=spec((Task.SEMSEG,)))
    train(config, lambda _step, _steps, values: told.append(values))
    assert load_checkpoint(tmp_path / "run", "best.pt")["step"] == 3
    assert said_of(config) == ["semseg: scored 0.6"]
    assert any("semseg/iou/background" in values or "semseg/classes_at_0" in values for values in told)
