from pathlib import Path

import numpy as np
from PIL import Image

from mtlora.data.layout import open_dataset
from mtlora.training.report.colours import UNLABELLED
from mtlora.training.report.strips import PANEL_PX, WIDEST_PX, known_labels, stacked, strip, strip_of, titles
from mtlora.vocabulary.spec import TaskSpec, palette_classes
from mtlora.vocabulary.tasks import Task
from testing.factories import adapter_spec, make_backbone, make_model
from testing.tiny_dataset import SIZE, write_dataset

RANKS = (2, 2, 2, 2)
PARTS = TaskSpec.make(Task.HUMAN_PARTS, ranks=RANKS)
SALIENCY = TaskSpec.make(Task.SALIENCY, ranks=RANKS)


def test_photo_truth_and_prediction_side_by_side() -> None:
    photo = Image.new("RGB", (100, 50), (9, 9, 9))
    label = np.full((1, 50, 100), 255, dtype=np.uint8)
    found = np.zeros((50, 100), dtype=np.float32)
    whole = np.asarray(strip(photo, [SALIENCY], {Task.SALIENCY: label}, {Task.SALIENCY: found}))
    assert whole.shape == (PANEL_PX // 2, 3 * PANEL_PX + 8, 3)
    step = PANEL_PX + 4
    assert (whole[:, :PANEL_PX] == 9).all()
    assert (whole[:, step : step + PANEL_PX] == 255).all()
    assert (whole[:, 2 * step :] == 0).all()


def test_what_has_no_label_is_blank() -> None:
    found = np.zeros((8, 8), dtype=np.float32)
    whole = np.asarray(strip(Image.new("RGB", (8, 8)), [SALIENCY], {}, {Task.SALIENCY: found}))
    assert (whole[:, PANEL_PX + 4 : 2 * PANEL_PX + 4] == UNLABELLED).all()


def test_many_tasks_have_smaller_panels() -> None:
    tasks = [TaskSpec.make(task, ranks=RANKS) for task in (Task.SALIENCY, Task.EDGE, Task.DEPTH, Task.HUMAN_PARTS)]
    maps = {task.task: np.zeros((4, 4), dtype=np.float32) for task in tasks}
    assert strip(Image.new("RGB", (4, 4)), tasks, {}, maps).width <= WIDEST_PX


def test_labels_are_in_the_sets_classes(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data"), "val")
    two = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("background", "person")), ranks=RANKS)
    labels = known_labels(dataset.records[0], [two, TaskSpec.make(Task.DEPTH, ranks=RANKS)], dataset)
    assert set(labels) == {Task.SEMSEG} and labels[Task.SEMSEG].shape == (1, SIZE[1], SIZE[0])
    assert set(np.unique(labels[Task.SEMSEG])) == {0, 1}


def test_a_photo_as_a_model_sees_it(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data"), "val")
    model = make_model(make_backbone(), adapter_spec(tasks=(Task.HUMAN_PARTS, Task.NORMALS)))
    picture = strip_of(model, dataset.records[0], dataset)
    assert picture.size == (5 * PANEL_PX + 16, round(PANEL_PX * SIZE[1] / SIZE[0]))


def test_strips_below_a_line_of_titles() -> None:
    assert titles([PARTS]) == ["photo", "human_parts: truth", "human_parts: prediction"]
    strips = [Image.new("RGB", (608, height), (1, 2, 3)) for height in (10, 20)]
    whole = stacked(strips, [PARTS])
    assert whole.width == 608 and whole.height > 30
    pixels = np.asarray(whole)
    assert ((pixels == (1, 2, 3)).all(axis=-1).sum(axis=0) == 30).all()
    assert (pixels[:18] < 128).any()  # the titles
