"""PASCAL VOC without a labelmap, and its XML."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import VOC_CLASSES, voc_color
from tests.mtlora.data.importing.small import HEIGHT, WIDTH, area, brought, labels, photo

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
POLYGON = "<polygon><x1>1</x1><y1>1</y1><x2>5</x2><y2>1</y2><x3>5</x3><y3>5</y3><x4>1</x4><y4>5</y4></polygon>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    photo(folder / "JPEGImages")
    return folder


def write_xml(root: Path, *objects: str) -> None:
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    text = "".join(f"<object><name>cat</name>{each}</object>" for each in objects)
    (root / "p.xml").write_text(f"<annotation><filename>p.jpg</filename>{size}{text}</annotation>")


def save_mask(root: Path, values: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]") -> None:
    (root / "SegmentationClass").mkdir()
    image = Image.fromarray(values)
    image.putpalette([level for index in range(256) for level in voc_color(index)])
    image.save(root / "SegmentationClass" / "p.png")


def test_xml_with_boxes_only_is_refused(root: Path) -> None:
    write_xml(root, BOX, BOX)
    with pytest.raises(DataError, match=r"PASCAL VOC has no outlines of anything: 2 boxes.* Segmentation needs areas"):
        brought(root)


def test_xml_with_polygons(root: Path) -> None:
    write_xml(root, BOX + POLYGON, BOX)
    np.testing.assert_array_equal(labels(root), area(1, 1, 5, 5))


def test_without_a_labelmap_indices_are_voc_s(root: Path) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[2:4], values[4] = 15, 255
    save_mask(root, values)
    report, out = brought(root)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "semseg" / "p.png")), values)
    assert report.classes == VOC_CLASSES


def test_a_class_beyond_voc_s_needs_a_labelmap(root: Path) -> None:
    save_mask(root, np.full((HEIGHT, WIDTH), 40, np.uint8))
    with pytest.raises(DataError, match=r"has class 40; VOC has 21, and there is no labelmap\.txt"):
        brought(root)
