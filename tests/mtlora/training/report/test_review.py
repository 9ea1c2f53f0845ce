import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlora.data.layout import open_dataset
from mtlora.evaluation.evaluate import evaluate
from mtlora.training.report.review import Review, ReviewedPhoto, confusion_csv, never_found, review, shares
from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import TaskSpec, palette_classes
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec, make_backbone, make_model
from testing.tiny_dataset import COUNT, write_dataset

TASKS = (Task.HUMAN_PARTS, Task.NORMALS)
TWO = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("ground, dry", "box")), ranks=(2, 2, 2, 2))


def test_scores_are_those_of_evaluation(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data"), "val", TASKS)
    model = make_model(make_backbone(), adapter_spec(tasks=TASKS))
    found = review(model, dataset)
    whole = {task: report.scores for task, report in evaluate(model, dataset, TASKS).items()}
    assert found.scores.keys() == whole.keys()
    for task in TASKS:
        assert found.scores[task] == pytest.approx(whole[task], nan_ok=True)
    assert len(found.photos) == COUNT and set(found.confusion) == {Task.HUMAN_PARTS}
    assert found.confusion[Task.HUMAN_PARTS].sum() == COUNT * 48 * 40
    alone = evaluate(model, replace(dataset, records=dataset.records[:1]), TASKS)
    assert found.photos[0].scores[Task.NORMALS] == pytest.approx(alone[Task.NORMALS].scores["mean_deg"])


def test_labels_of_none_of_the_tasks_are_told(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data"), "val")
    model = make_model(make_backbone(), adapter_spec(tasks=(Task.EDGE,)))
    with pytest.raises(TrainingError, match="no label of any of the set's tasks"):
        review(model, dataset)


def reviewed(**scores: dict[Task, float]) -> Review:
    photos = tuple(ReviewedPhoto(name, own, Image.new("RGB", (1, 1))) for name, own in scores.items())
    return Review(adapter_spec(), photos, {Task.HUMAN_PARTS: {}, Task.NORMALS: {}}, {})


def test_the_worst_are_worst_in_every_task_that_they_have() -> None:
    """A high mIoU is good, a high angle is bad; what has no label or no score does not count."""
    found = reviewed(
        good={Task.HUMAN_PARTS: 0.9, Task.NORMALS: 10.0},
        bad={Task.HUMAN_PARTS: 0.1, Task.NORMALS: 50.0},
        middle={Task.HUMAN_PARTS: 0.5, Task.NORMALS: 30.0},
        blank={Task.HUMAN_PARTS: math.nan},
    )
    assert [photo.id for photo in found.worst()] == ["bad", "middle", "good"]
    assert [photo.id for photo in found.worst(1)] == ["bad"]


def test_shares_of_a_row() -> None:
    assert shares(np.array([[3, 1], [0, 0]])).tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_a_class_that_is_never_predicted() -> None:
    assert never_found(TWO, np.array([[5, 0], [2, 0]])) == ["box"]
    assert never_found(TWO, np.array([[5, 0], [0, 0]])) == []  # nor is it labelled


def test_a_confusion_table_can_be_read_back() -> None:
    rows = list(csv.reader(io.StringIO(confusion_csv(TWO, np.array([[5, 1], [2, 7]])))))
    assert rows == [["labelled \\ predicted", "ground, dry", "box"], ["ground, dry", "5", "1"], ["box", "2", "7"]]
