from pathlib import Path

import pytest
from PIL import Image

from mtlora.data.agreement import cannot_be_told, check_agreement, disagreement
from mtlora.data.layout import open_dataset
from mtlora.data.photos import PhotoShape
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from testing.tiny_dataset import SIZE, write_dataset


@pytest.mark.parametrize("label", [(640, 480), (320, 240), (213, 160), (214, 160), (1280, 960), (40, 30), (1, 1)])
def test_labels_of_any_size_and_the_photos_shape_agree(label: tuple[int, int]) -> None:
    assert disagreement(label, PhotoShape(640, 480)) == ("", "")


@pytest.mark.parametrize("side", [96, 128, 200, 333, 700])
@pytest.mark.parametrize("whole", [(500, 331), (1333, 1000), (375, 500), (641, 479)])
def test_copies_of_one_picture_agree_however_they_were_rounded(side: int, whole: tuple[int, int]) -> None:
    small = [round(length * side / max(whole)) for length in whole]
    assert disagreement(whole, PhotoShape(*small)) == disagreement((small[0], small[1]), PhotoShape(*whole)) == ("", "")


@pytest.mark.parametrize("label", [(576, 448), (480, 480), (600, 480), (640, 440), (480, 640)])
def test_other_aspect_ratios_do_not(label: tuple[int, int]) -> None:
    cause, mend = disagreement(label, PhotoShape(640, 480))
    assert "another aspect ratio" in cause and "crop both alike" in mend


def test_labels_drawn_as_the_photo_is_stored_are_named() -> None:
    phone = PhotoShape(300, 400, orientation=6)
    assert phone.stored == (400, 300)
    assert disagreement((300, 400), phone) == ("", "")
    cause, mend = disagreement((200, 150), phone)
    assert "as it is stored" in cause and "mtlora data upright" in mend


def test_what_sizes_cannot_tell() -> None:
    assert cannot_be_told((400, 300), PhotoShape(400, 300, orientation=3))
    assert cannot_be_told((300, 300), PhotoShape(300, 300, orientation=6))
    assert cannot_be_told((400, 400), PhotoShape(400, 401, orientation=6))
    assert not cannot_be_told((300, 400), PhotoShape(300, 400, orientation=6))
    assert not cannot_be_told((300, 300), PhotoShape(300, 300))


def test_one_line_a_cause_whatever_the_task(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    for task in ("semseg", "saliency"):
        Image.new("L", (SIZE[0], SIZE[0])).save(root / task / "photo1.png")
    dataset = open_dataset(root, "train")
    check_agreement(dataset, (Task.NORMALS,))
    with pytest.raises(DataError, match=r"semseg/photo1.png \(48 x 48, the photo 48 x 40\), saliency/") as caught:
        check_agreement(dataset, (Task.SEMSEG, Task.SALIENCY))
    assert len(caught.value.problems) == 1
