"""Labels of photos with an EXIF orientation, drawn upright or on the photo as stored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mtlora.data.importing.draw import turned
from mtlora.vocabulary.errors import DataError
from tests.mtlora.data.importing.small import HEIGHT, ORIENTATION, WIDTH, area, box, coco, labels, photo

DOG = ({"id": 3, "name": "dog"},)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_turn_as_photos_do(orientation: int) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(stored)
    image.getexif()[ORIENTATION] = orientation
    np.testing.assert_array_equal(turned(stored, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_of_the_stored_size_are_turned(orientation: int, tmp_path: Path) -> None:
    root = tmp_path / "export"
    photo(root, orientation=orientation)
    coco(root, [{"category_id": 3, "segmentation": [box(1, 2, 4, 7)]}], DOG)
    stored = area(1, 2, 4, 7).astype(np.uint8)
    np.testing.assert_array_equal(labels(root), turned(stored, orientation))


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_labels_of_the_upright_size_stay(orientation: int, tmp_path: Path) -> None:
    root = tmp_path / "export"
    photo(root, orientation=orientation)
    width, height = (HEIGHT, WIDTH) if orientation > 4 else (WIDTH, HEIGHT)
    coco(root, [{"category_id": 3, "segmentation": [box(1, 2, 4, 7)]}], DOG, width=width, height=height)
    np.testing.assert_array_equal(labels(root), area(1, 2, 4, 7, (height, width)))


def test_any_other_size_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "export"
    photo(root)
    coco(root, [{"category_id": 3, "segmentation": [box(1, 2, 4, 7)]}], DOG, width=2 * WIDTH, height=2 * HEIGHT)
    with pytest.raises(DataError, match="the labels are for 24 x 16 pixels, the photo has 12 x 8"):
        labels(root)
