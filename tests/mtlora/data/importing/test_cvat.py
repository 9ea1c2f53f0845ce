"""CVAT's XML: layers, shapes, subsets, what has no area."""

from pathlib import Path

import numpy as np
import pytest

from mtlora.vocabulary.errors import DataError
from tests.mtlora.data.importing.small import HEIGHT, WIDTH, area, brought, labels, photo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    photo(folder)
    return folder


def write(root: Path, *images: str, labels: tuple[str, ...] = ("cat", "dog")) -> None:
    known = "".join(f"<label><name>{name}</name></label>" for name in labels)
    text = f"<annotations><version>1.1</version><meta><job><labels>{known}</labels></job></meta>{''.join(images)}"
    (root / "annotations.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}</annotations>\n')


def image(*shapes: str, name: str = "p.jpg", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}" {more}>{"".join(shapes)}</image>'


def polygon(name: str, left: int, top: int, right: int, bottom: int, layer: int) -> str:
    points = f"{left}.0,{top}.0;{right}.0,{top}.0;{right}.0,{bottom}.0;{left}.0,{bottom}.0"
    return f'<polygon label="{name}" points="{points}" z_order="{layer}"/>'


@pytest.mark.parametrize("layers", [(1, 0), (0, -3)])
def test_the_higher_layer_is_seen_though_it_comes_first_and_is_larger(root: Path, layers: tuple[int, int]) -> None:
    write(root, image(polygon("dog", 1, 1, 9, 7, layers[0]), polygon("cat", 3, 3, 5, 5, layers[1])))
    np.testing.assert_array_equal(labels(root), area(1, 1, 9, 7) * 2)


def test_on_one_layer_what_was_drawn_later_is_seen(root: Path) -> None:
    write(root, image(polygon("dog", 1, 1, 5, 5, 0), polygon("cat", 3, 3, 9, 7, 0)))
    np.testing.assert_array_equal(labels(root), np.where(area(3, 3, 9, 7), 1, area(1, 1, 5, 5) * 2))


def test_a_mask_lies_in_its_box(root: Path) -> None:
    write(root, image('<mask label="cat" rle="1, 2, 3" left="4" top="2" width="3" height="2" z_order="0"/>'))
    wanted = np.zeros((HEIGHT, WIDTH))
    wanted[2, 5:7] = 1
    np.testing.assert_array_equal(labels(root), wanted)


def test_an_ellipse(root: Path) -> None:
    write(root, image('<ellipse label="cat" cx="6" cy="4" rx="4" ry="2" z_order="0"/>'))
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    np.testing.assert_array_equal(labels(root), ((x - 6) / 4) ** 2 + ((y - 4) / 2) ** 2 < 1)


def test_what_has_no_area_is_left_out_and_counted(root: Path) -> None:
    box = '<box label="dog" xtl="1" ytl="1" xbr="3" ybr="3" z_order="0"/>'
    line = '<polyline label="dog" points="1,1;2,2" z_order="0"/>'
    write(root, image(polygon("cat", 1, 1, 5, 5, 0), box, box, line))
    notes = brought(root)[0].notes
    assert "left out: 2 boxes, which are no outlines" in notes
    assert "left out: 1 polylines, which have no area" in notes


def test_subsets_are_splits(root: Path) -> None:
    photo(root, "q.jpg")
    shape = polygon("cat", 1, 1, 5, 5, 0)
    write(root, image(shape, more='subset="Train"'), image(shape, name="q.jpg", more='subset="Validation"'))
    assert brought(root)[0].splits == {"train": ["p"], "val": ["q"]}


def test_boxes_alone_are_refused(root: Path) -> None:
    write(root, image('<box label="dog" xtl="1" ytl="1" xbr="3" ybr="3" z_order="0"/>'))
    with pytest.raises(DataError, match="no outlines of anything: 1 boxes"):
        brought(root)
