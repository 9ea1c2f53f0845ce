"""Folders of masks: how values are read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlora.data.importing.cityscapes import TRAINED
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from tests.mtlora.data.importing.small import HEIGHT, WIDTH, area, brought, labels, photo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    photo(folder / "images")
    (folder / "masks").mkdir()
    return folder


def values(*bands: int) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    """A row or more of each value."""
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    for row, value in enumerate(bands):
        found[row] = value
    return found


def test_0_and_255_are_background_and_one_class(root: Path) -> None:
    Image.fromarray(values(0, 255, 255)).save(root / "masks" / "p.png")
    report, out = brought(root)
    assert report.classes == ("background", "foreground")
    np.testing.assert_array_equal(np.asarray(Image.open(out / "semseg" / "p.png")), values(0, 1, 1))


def test_a_mask_of_one_bit(root: Path) -> None:
    Image.fromarray(values(0, 255)).convert("1").save(root / "masks" / "p.png")
    np.testing.assert_array_equal(labels(root), values(0, 1))


def test_0_and_255_that_jpeg_blurred(root: Path) -> None:
    side = 64
    photo(root / "images", size=(side, side))
    wanted = area(16, 24, 40, 48, (side, side))
    Image.fromarray((wanted * 255).astype(np.uint8)).save(root / "masks" / "p.jpg", quality=90)
    np.testing.assert_array_equal(labels(root), wanted)


def test_with_other_values_255_is_ignore(root: Path) -> None:
    Image.fromarray(values(0, 1, 3, 255)).save(root / "masks" / "p.png")
    report, out = brought(root)
    assert report.classes == ("background", "class-1", "class-2", "class-3")
    np.testing.assert_array_equal(np.asarray(Image.open(out / "semseg" / "p.png")), values(0, 1, 3, 255))


def test_names_of_values_come_from_roboflow_s_list(root: Path) -> None:
    (root / "masks").rmdir()
    (root / "images" / "p.jpg").rename(root / "p.jpg")
    Image.fromarray(values(0, 1, 2)).save(root / "p_mask.png")
    (root / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, leaf\n2, stem\n")
    assert brought(root)[0].classes == ("background", "leaf", "stem")


def test_colours_need_a_list_of_them(root: Path) -> None:
    coloured = np.stack([values(0, 200), values(0, 10), values(0, 30)], axis=2)
    Image.fromarray(coloured).save(root / "masks" / "p.png")
    with pytest.raises(DataError, match=r"are coloured.*class_dict\.csv"):
        brought(root)
    (root / "class_dict.csv").write_text("name,r,g,b\nleaf,200,10,30\nbackground,0,0,0\n")
    np.testing.assert_array_equal(labels(root), values(0, 1))


def test_a_colour_that_the_list_has_not_got_is_named(root: Path) -> None:
    Image.fromarray(np.stack([values(0, 200, 7)] * 2 + [values(1, 0)], axis=2)).save(root / "masks" / "p.png")
    (root / "class_dict.csv").write_text("name,r,g,b\nleaf,200,200,0\nbackground,0,0,0\n")
    with pytest.raises(DataError, match=r"2 colours that the list of colours does not have.*\(0, 0, 1\)"):
        brought(root)


def test_cityscapes_label_ids_become_its_19_classes(root: Path) -> None:
    (root / "masks").rmdir()
    (root / "images" / "p.jpg").unlink()
    for split, city in (("train", "aachen"), ("val", "bonn")):
        photo(root / "leftImg8bit" / split / city, f"{city}_0_leftImg8bit.png")
        folder = root / "gtFine" / split / city
        folder.mkdir(parents=True)
        Image.fromarray(values(7, 33, 4, 0, 26)).save(folder / f"{city}_0_gtFine_labelIds.png")
        Image.fromarray(values(1)).save(folder / f"{city}_0_gtFine_instanceIds.png")
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8)).save(folder / f"{city}_0_gtFine_color.png")
    report, out = brought(root)
    assert report.classes == tuple(TRAINED.values())
    assert {split: len(ids) for split, ids in report.splits.items()} == {"train": 1, "val": 1}
    found = np.asarray(Image.open(out / "semseg" / f"{report.splits['train'][0]}.png"))
    assert [report.classes[found[row, 0]] for row in (0, 1, 4)] == ["road", "bicycle", "car"]
    assert (found[2:4] == 255).all()
    assert (found[5:] == 255).all()


def test_soft_masks_are_for_saliency(root: Path) -> None:
    side = 80
    photo(root / "images", size=(side, side))
    soft = np.repeat(np.arange(side, dtype=np.uint8)[:, None] * 3, side, axis=1)
    Image.fromarray(soft).save(root / "masks" / "p.png")
    with pytest.raises(DataError, match="80 levels of grey"):
        brought(root)
    _, out = brought(root, tasks=(Task.SALIENCY,))
    np.testing.assert_array_equal(np.asarray(Image.open(out / "saliency" / "p.png")), soft)
