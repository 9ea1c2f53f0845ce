"""COCO: crowds, holes, gaps, several rings, Roboflow's and CVAT's ways."""

import json
from pathlib import Path

import numpy as np
import pytest

from mtlora.vocabulary.errors import DataError
from tests.mtlora.data.importing.small import HEIGHT, WIDTH, area, box, brought, coco, labels, photo

CATEGORIES = ({"id": 90, "name": "cat"}, {"id": 3, "name": "dog"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    photo(folder)
    return folder


def test_gaps_between_categories_are_closed_in_the_order_of_their_ids(root: Path) -> None:
    coco(root, [{"category_id": 90, "segmentation": [box(1, 1, 5, 5)]}], CATEGORIES)
    report, out = brought(root)
    assert report.classes == ("background", "dog", "cat")
    assert (out / "classes.txt").read_text() == "background\ndog\ncat\n"


def test_the_smaller_shape_lies_on_top_whatever_the_order(root: Path) -> None:
    small = {"category_id": 90, "segmentation": [box(3, 3, 5, 5)]}
    large = {"category_id": 3, "segmentation": [box(1, 1, 9, 7)]}
    wanted = np.where(area(3, 3, 5, 5), 2, area(1, 1, 9, 7))
    coco(root, [small, large], CATEGORIES)
    np.testing.assert_array_equal(labels(root), wanted)


def test_a_crowd_lies_below_single_objects_though_it_is_smaller(root: Path) -> None:
    runs = np.flatnonzero(np.diff(np.pad(area(3, 3, 5, 5).ravel(order="F").astype(np.int8), 1))).tolist()
    counts = np.diff([0, *runs, WIDTH * HEIGHT]).tolist()
    crowd = {"category_id": 90, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}, "iscrowd": 1}
    single = {"category_id": 3, "segmentation": [box(4, 1, 9, 7)]}
    coco(root, [single, crowd], CATEGORIES)
    np.testing.assert_array_equal(labels(root), np.where(area(4, 1, 9, 7), 1, area(3, 3, 5, 5) * 2))


def test_rings_of_one_object_are_a_union(root: Path) -> None:
    coco(root, [{"category_id": 3, "segmentation": [box(1, 1, 6, 6), box(4, 4, 9, 7)]}], CATEGORIES)
    np.testing.assert_array_equal(labels(root), area(1, 1, 6, 6) | area(4, 4, 9, 7))


def test_a_hole_comes_as_run_lengths_or_as_a_ring_there_and_back(root: Path) -> None:
    ring = [*box(1, 1, 9, 7), 1, 1, *box(3, 3, 6, 5), 3, 3]
    coco(root, [{"category_id": 3, "segmentation": [ring]}], CATEGORIES)
    np.testing.assert_array_equal(labels(root), area(1, 1, 9, 7) & ~area(3, 3, 6, 5))


def test_roboflow_s_category_above_all_others_is_no_class(root: Path) -> None:
    (root / "p.jpg").rename(root / "p_jpg.rf.0a1b.jpg")
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "pets"},
    ]
    for split in ("train", "valid"):
        folder = root / split
        photo(folder, "p_jpg.rf.0a1b.jpg")
        coco(folder, [{"category_id": 2, "segmentation": [box(1, 1, 5, 5)]}], categories, file_name="p_jpg.rf.0a1b.jpg")
        (folder / "annotations.json").rename(folder / "_annotations.coco.json")
    (root / "p_jpg.rf.0a1b.jpg").unlink()
    report, _ = brought(root)
    assert report.classes == ("background", "cat", "dog")
    assert report.splits == {"train": ["train__p_jpg.rf.0a1b"], "val": ["valid__p_jpg.rf.0a1b"]}


def test_cvat_s_coco_has_boxes_beside_masks_and_photos_in_folders(root: Path) -> None:
    (root / "p.jpg").unlink()
    photo(root, "images/default/left/p.jpg")
    photo(root, "images/default/right/p.jpg")
    annotations = [
        {"category_id": 3, "segmentation": [box(1, 1, 5, 5)]},
        {"category_id": 3, "segmentation": [], "bbox": [1, 1, 3, 3]},
    ]
    coco(root, annotations, CATEGORIES, file_name="right/p.jpg")
    report, out = brought(root)
    assert report.splits == {"train": ["p"]}
    assert (out / "meta.csv").read_text().splitlines() == ["id,file", "p,images/default/right/p.jpg"]
    assert "left out: 1 boxes, which are no outlines" in report.notes


def test_boxes_alone_are_refused(root: Path) -> None:
    coco(root, [{"category_id": 3, "segmentation": [], "bbox": [1, 1, 3, 3]}], CATEGORIES)
    with pytest.raises(DataError, match="no outlines of anything: 1 boxes, which are no outlines"):
        brought(root)


def test_captions_and_key_points_beside_it_are_left_alone(root: Path) -> None:
    coco(root, [{"category_id": 3, "segmentation": [box(1, 1, 5, 5)]}], CATEGORIES)
    other = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "pose"}]}
    (root / "person_keypoints_val2017.json").write_text(json.dumps(other))
    assert brought(root)[0].classes == ("background", "dog", "cat")
