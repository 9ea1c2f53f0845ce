import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy", reason="PASCAL-Context's .mat files need scipy")

from scipy.io import savemat

from mtlora.data.layout import open_dataset, splits_of
from mtlora.data.pascal_classes import NORMALS_CLASSES, PARTS
from mtlora.data.read import read_label
from mtlora.data.records import PhotoRecord
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from testing.published_datasets import HEIGHT, PASCAL_IDS, WIDTH, annotation, write_pascal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pascal(tmp_path)


def photos(root: Path, split: str = "train") -> tuple[PhotoRecord, ...]:
    return open_dataset(root, split).records


def test_the_layout_is_recognised_and_complete(root: Path) -> None:
    dataset = open_dataset(root, "train", (Task.SEMSEG, Task.HUMAN_PARTS, Task.SALIENCY, Task.NORMALS, Task.EDGE))
    assert [record.id for record in dataset.records] == list(PASCAL_IDS[:2])
    assert splits_of(root) == ["train", "val"]
    assert all(len(record.labels) == 5 for record in dataset.records)


def test_semseg_prefers_voc_and_falls_back(root: Path) -> None:
    first, second = photos(root)
    assert first.labels[Task.SEMSEG].files[0].parent.name == "VOC12"
    assert second.labels[Task.SEMSEG].files[0].parent.name == "pascal-context"
    assert np.unique(read_label(first.labels[Task.SEMSEG], Task.SEMSEG)).tolist() == [0, 15]


def test_parts_are_merged_to_six(root: Path) -> None:
    label = read_label(photos(root)[0].labels[Task.HUMAN_PARTS], Task.HUMAN_PARTS)[0]
    assert label.shape == (HEIGHT, WIDTH)
    assert label[0, 0] == 1  # head
    assert label[-1, 0] == 6  # a foot is lower leg
    assert (label[4:12] == 0).all() and (label[:, WIDTH // 2 :] == 0).all()
    assert len(PARTS) == 24 and set(PARTS.values()) == {1, 2, 3, 4, 5, 6}


def test_without_an_annotated_person_parts_are_unknown(root: Path) -> None:
    """The rule of the benchmark: such a photo says nothing, not `background`."""
    assert (read_label(photos(root)[1].labels[Task.HUMAN_PARTS], Task.HUMAN_PARTS) == 255).all()


def test_normals_hold_on_known_classes_only(root: Path) -> None:
    """Person is a class of NYU-v2 too, sky is not."""
    label = read_label(photos(root)[0].labels[Task.NORMALS], Task.NORMALS)
    assert label[:, 0, 0].tolist() == [128, 128, 0]
    assert (label[:, :, WIDTH // 2 :] == 0).all()
    wall = read_label(photos(root)[1].labels[Task.NORMALS], Task.NORMALS)
    assert wall.any(axis=0).all()


def test_the_valid_classes_are_in_the_order_of_their_names() -> None:
    """PASCAL-Context numbers its 459 classes alphabetically, so a slip of a number would break the order."""
    assert list(NORMALS_CLASSES) == sorted(NORMALS_CLASSES)
    names = list(NORMALS_CLASSES.values())
    assert names == sorted(names)
    assert {NORMALS_CLASSES[427], NORMALS_CLASSES[284]} == {"tvmonitor", "person"}
    assert 360 not in NORMALS_CLASSES and 431 not in NORMALS_CLASSES  # sky, unknown


def test_edges_are_where_the_classes_change(root: Path) -> None:
    """Two columns have a Laplacian; thinning leaves one of them."""
    edge = read_label(photos(root)[0].labels[Task.EDGE], Task.EDGE)[0]
    columns = np.flatnonzero(edge.any(axis=0))
    assert set(columns) <= {WIDTH // 2 - 1, WIDTH // 2}
    assert (edge[1:-1] > 0).sum(axis=1).tolist() == [1] * (HEIGHT - 2)
    assert not read_label(photos(root)[1].labels[Task.EDGE], Task.EDGE).any()


def test_saliency_is_kept_as_it_is(root: Path) -> None:
    label = read_label(photos(root)[0].labels[Task.SALIENCY], Task.SALIENCY)[0]
    assert (label[:, 0] == 200).all() and (label[:, -1] == 90).all()


def test_faults_name_the_file(root: Path) -> None:
    name = PASCAL_IDS[0]
    (root / "pascal-context/trainval" / f"{PASCAL_IDS[1]}.mat").unlink()
    with pytest.raises(DataError, match=f"{PASCAL_IDS[1]}.* says where they hold"):
        open_dataset(root, "train")
    (root / "ImageSets/Context/train.txt").write_text(name)
    source = photos(root)[0].labels[Task.HUMAN_PARTS]
    mask = np.ones((HEIGHT, WIDTH), dtype=bool)
    savemat(source.files[0], {"anno": annotation(name, [("person", 15, mask, [("tail", mask)])])})
    with pytest.raises(DataError, match="no human part is called 'tail'"):
        source.load()
    savemat(source.files[0], {"anno": annotation(name, [("person", 15, mask, [("head", mask[:4])])])})
    with pytest.raises(DataError, match=r"mask of head is \(4, 24\), the photo \(16, 24\)"):
        source.load()
    savemat(source.files[0], {"other": 1})
    with pytest.raises(DataError, match="structure of PASCAL-Part"):
        source.load()
    source.files[0].write_bytes(b"torn")
    with pytest.raises(DataError, match=r"cannot be read as a \.mat file"):
        source.load()


def test_maps_of_another_size_are_told(root: Path) -> None:
    source = photos(root)[0].labels[Task.NORMALS]
    Image.new("RGB", (5, 4)).save(source.files[0])
    with pytest.raises(DataError, match=r"is \(4, 5\), .* is \(16, 24\)"):
        source.load()
    savemat(source.files[1], {"LabelMap": np.zeros((2, 2, 2))})
    with pytest.raises(DataError, match="no two-dimensional LabelMap"):
        source.load()


def test_an_archive_without_normals_is_told_by_its_own_folders(root: Path) -> None:
    for folder in ("normals_distill", "sal_distill"):
        shutil.rmtree(root / folder)
    with pytest.raises(DataError, match="2 problems") as caught:
        open_dataset(root, "train", (Task.SEMSEG, Task.SALIENCY, Task.NORMALS))
    saliency, normals = caught.value.problems
    assert "no photo of split 'train' has a label in sal_distill/; " in saliency
    assert "in normals_distill/ with pascal-context/trainval/; labelled are semseg, human_parts, edge" in normals
    assert "docs/dataset-format.md" in normals
