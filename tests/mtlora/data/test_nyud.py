import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the generator of published layouts needs scipy")

from mtlora.data.classes import label_table
from mtlora.data.layout import open_dataset
from mtlora.data.nyud import read_depth, read_normals
from mtlora.data.read import FARTHEST_MM, read_label
from mtlora.data.records import LabelSource
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.spec import TaskSpec, palette_classes
from mtlora.vocabulary.tasks import NYU_CLASSES, Task
from testing.published_datasets import HEIGHT, WIDTH, write_nyud


@pytest.fixture
def labels(tmp_path: Path) -> dict[Task, LabelSource]:
    tasks = (Task.SEMSEG, Task.NORMALS, Task.DEPTH, Task.EDGE)
    return open_dataset(write_nyud(tmp_path), "train", tasks).records[0].labels


def test_classes_begin_at_0_and_unlabelled_is_ignored(labels: dict[Task, LabelSource]) -> None:
    label = read_label(labels[Task.SEMSEG], Task.SEMSEG)[0]
    assert label[0, 0] == 0 and label[0, -1] == 1 and (label[-2:] == 255).all()
    assert len(NYU_CLASSES) == 40 and NYU_CLASSES[:2] == ("wall", "floor")


def test_normals_depth_and_edges(labels: dict[Task, LabelSource]) -> None:
    normals = read_label(labels[Task.NORMALS], Task.NORMALS).astype(float) / 127.5 - 1
    np.testing.assert_allclose(normals[:, 5, 0], (0, 0, -1), atol=0.01)
    np.testing.assert_allclose(normals[:, 5, -1], (0, -1, 0), atol=0.01)
    assert (read_label(labels[Task.NORMALS], Task.NORMALS)[:, 0] == 0).all()
    depth = read_label(labels[Task.DEPTH], Task.DEPTH)
    assert depth.dtype == np.uint16 and depth[0, 0, 0] == 0 and depth[0, 3, 3] == 2500
    assert (read_label(labels[Task.EDGE], Task.EDGE)[0, :, WIDTH // 2] == 255).all()


def test_a_set_may_take_some_classes_by_name(tmp_path: Path) -> None:
    dataset = open_dataset(write_nyud(tmp_path), "train")
    floor = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("floor", "bed")))
    assert label_table(floor, dataset.classes[Task.SEMSEG])[[0, 1, 3, 255]].tolist() == [255, 0, 1, 255]


def test_what_is_not_finite_is_unknown(tmp_path: Path) -> None:
    """On purpose: no warning of a cast says that it happens by chance."""
    depth = np.array([[np.inf, np.nan, -np.inf, -1.0, 2.0, 1e9]], np.float32)
    np.save(tmp_path / "depth.npy", depth)
    normals = np.zeros((1, 3, 3), np.float32)
    normals[..., 2] = -1
    normals[0, 0, 0], normals[0, 1, 1] = np.nan, np.inf
    np.save(tmp_path / "normals.npy", normals)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_depth(tmp_path / "depth.npy").tolist() == [[0, 0, 0, 0, 2000, FARTHEST_MM]]
        assert read_normals(tmp_path / "normals.npy").any(axis=-1).tolist() == [[False, False, True]]
        far = read_label(LabelSource(read_depth, (tmp_path / "depth.npy",)), Task.DEPTH)
    assert far.ravel().tolist() == [0, 0, 0, 0, 2000, 0], "what is farther than can be said is unknown"


@pytest.mark.parametrize(
    ("task", "array", "told"),
    [
        (Task.DEPTH, np.zeros((2, 2, 2)), r"expected numbers \[H, W\], got float64 \(2, 2, 2\)"),
        (Task.NORMALS, np.zeros((2, 2)), r"expected numbers \[H, W, 3\], got float64 \(2, 2\)"),
        (Task.NORMALS, np.full((2, 2, 3), 2.0), r"must lie in -1..1, got 2"),
        (Task.EDGE, np.array([[{}]], dtype=object), "cannot be read as an array"),
    ],
)
def test_faults_name_the_file(labels: dict[Task, LabelSource], task: Task, array: np.ndarray, told: str) -> None:
    np.save(labels[task].files[0], array)
    with pytest.raises(DataError, match=told):
        labels[task].load()


def test_a_channel_of_its_own_is_fine(labels: dict[Task, LabelSource]) -> None:
    np.save(labels[Task.DEPTH].files[0], np.ones((HEIGHT, WIDTH, 1)))
    assert read_label(labels[Task.DEPTH], Task.DEPTH).shape == (1, HEIGHT, WIDTH)
