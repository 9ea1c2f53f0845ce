from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlora.data.check import check_dataset
from mtlora.data.own_classes import OwnClasses
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from testing.tiny_dataset import COUNT, SIZE, write_dataset


def whole(root: Path) -> Path:
    """A dataset without fault: its splits share no photo."""
    write_dataset(root)
    (root / "ImageSets" / "train.txt").write_text("photo0\nphoto1\nphoto2\n")
    (root / "ImageSets" / "val.txt").write_text("photo3\nphoto4\nphoto5\n")
    return root


def problems(root: Path, own: str = "") -> list[str]:
    return [finding.line() for finding in check_dataset(root, own=OwnClasses.parse(own)).problems]


def notes(root: Path, own: str = "") -> list[str]:
    return [finding.line() for finding in check_dataset(root, own=OwnClasses.parse(own)).notes]


def every_label(root: Path, made: np.ndarray, task: str = "semseg") -> None:
    for path in (root / task).iterdir():
        Image.fromarray(made.astype(np.uint8)).save(path)


def test_a_whole_dataset_has_no_problems(tmp_path: Path) -> None:
    report = check_dataset(whole(tmp_path))
    assert report.problems == ()
    assert report.counts["train"] == {None: 3} | dict.fromkeys(
        (Task.SEMSEG, Task.HUMAN_PARTS, Task.SALIENCY, Task.NORMALS), 3
    )
    assert ["15", "person", "13.33%", "train", "3", "val", "3"] in [row.split() for row in report.tables]
    assert set(report.photos.values()) == {0}


def test_every_problem_at_once(tmp_path: Path) -> None:
    root = whole(tmp_path)
    Image.new("L", SIZE, 30).save(root / "semseg" / "photo0.png")
    Image.new("L", (10, 10)).save(root / "saliency" / "photo1.png")
    Image.new("RGB", SIZE).save(root / "human_parts" / "photo2.png")
    (root / "JPEGImages" / "photo3.jpg").write_bytes(b"torn")
    (root / "semseg" / "photo4.png").write_bytes(b"torn")
    (root / "JPEGImages" / "photo5.jpg").unlink()
    (root / "meta.csv").write_text("id,semseg\nnobody,gt\n")
    (root / "ImageSets" / "train.txt").write_text("photo0\nphoto1\nphoto2\nphoto4\n")
    (root / "ImageSets" / "other.txt").write_text("\n")
    text = "\n".join(problems(root))
    for told in (
        "hold classes that there are not, expected 0..20 or 255: 1, semseg/photo0.png (class 30)",
        "another aspect ratio than their photos: 1, saliency/photo1.png (10 x 10, the photo 48 x 40)",
        "one 8-bit channel, got a colour image (mode RGB): 1, human_parts/photo2.png",
        "photo3.jpg cannot be read as an image",
        "semseg/photo4.png (photo4.png cannot be read as an image",
        "photos of split 'val' are missing in JPEGImages/: 1, 'photo5'",
        "labels belong to no photo of JPEGImages/: 4, semseg/photo5.png",
        "rows of meta.csv belong to no photo: 1, 'nobody'",
        "photos are in both train and val: 1, photo4",
        "split 'other' is empty",
    ):
        assert told in text, told


def test_masks_of_0_and_255_do_not_pass(tmp_path: Path) -> None:
    root = whole(tmp_path)
    mask = np.zeros(SIZE[::-1])
    mask[:10] = 255
    every_label(root, mask)
    (problem,) = problems(root, "background,thing")
    assert "only background and 255 (ignore), which covers 25.0%" in problem and f"import masks {root} OUT" in problem
    assert any("never hold class 1, while 255" in note for note in notes(root, "2"))


def test_a_class_that_is_only_255_is_asked_about(tmp_path: Path) -> None:
    root = whole(tmp_path)
    (root / "classes.txt").write_text("background\nleaf\nstem\n")
    mask = np.zeros(SIZE[::-1])
    mask[:10], mask[20:30] = 1, 255
    every_label(root, mask)
    assert problems(root) == []
    assert any("never hold stem, while 255 (ignore) covers 25.0%" in note for note in notes(root))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda image: image.convert("RGB"), "a colour image (mode RGB): 6"),
        (lambda image: image.convert("RGBA"), "a colour image (mode RGBA): 6"),
        (lambda image: image.convert("LA"), "an image with transparency (mode LA): 6"),
        (lambda image: Image.fromarray(np.asarray(image).astype(np.uint16)), "an image of more than 8 bits"),
        (lambda image: image.point(lambda v: v * 12).resize((24, 20), 2).resize(SIZE, 2), "They look smoothed"),
        (lambda image: image.point(lambda v: v * 8), "(class 120)"),
    ],
)
def test_masks_of_other_kinds_are_one_line(tmp_path: Path, change: object, told: str) -> None:
    assert callable(change)
    root = whole(tmp_path)
    for path in (root / "semseg").iterdir():
        with Image.open(path) as image:
            change(image).save(path)
    found = [line for line in problems(root) if told in line]
    assert len(found) == 1


def test_a_jpeg_under_another_name_is_one_line(tmp_path: Path) -> None:
    root = whole(tmp_path)
    for path in (root / "semseg").iterdir():
        with Image.open(path) as image:
            image.save(path, "JPEG")
    (problem,) = problems(root)
    assert "a JPEG file under another name" in problem and ": 6, " in problem and "Export them as PNG" in problem


def test_turned_photos_are_counted_and_their_labels_compared_upright(tmp_path: Path) -> None:
    root = whole(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (root / "JPEGImages").iterdir():
        with Image.open(path) as photo:
            photo.save(path, exif=exif)
    report = check_dataset(root)
    assert report.photos["turned by EXIF orientation"] == COUNT
    (problem,) = report.problems
    assert "drawn on the photo as it is stored" in problem.cause and len(problem.where) == 4 * COUNT
    assert problem.mend.startswith(f"`mtlora data upright {root} OUT`")


def test_labels_that_sizes_do_not_tell_are_noted(tmp_path: Path) -> None:
    root = whole(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(root / "JPEGImages" / "photo0.jpg") as photo:
        photo.save(root / "JPEGImages" / "photo0.jpg", exif=exif)
    assert any("cannot be seen from their size: 4, semseg/photo0.png" in note for note in notes(root))


def test_a_dataset_may_name_its_classes(tmp_path: Path) -> None:
    root = whole(tmp_path)
    (root / "classes.txt").write_text("\n".join(["background", *(f"c{i}" for i in range(1, 16))]))
    report = check_dataset(root)
    assert report.problems == () and any("   15 c15 " in row for row in report.tables)
    (root / "classes.txt").write_text("background\nleaf\n")
    assert any("expected 0..1 or 255: 6" in line for line in problems(root))
    with pytest.raises(DataError, match="has no stem"):
        problems(root, "background,stem")


def test_normals_must_be_about_one_long(tmp_path: Path) -> None:
    root = whole(tmp_path)
    Image.fromarray(np.full((10, 12, 3), 255, dtype=np.uint8)).save(root / "normals" / "photo0.png")
    assert problems(root) == ["normals labels have normals whose mean length is not 1: 1, normals/photo0.png (1.73)"]


def test_splits_that_are_not_there(tmp_path: Path) -> None:
    root = whole(tmp_path)
    (root / "ImageSets" / "val.txt").unlink()
    assert any("there is no split val" in note and "there are train" in note for note in notes(root))
    (root / "ImageSets" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"holds no list of photos .*mtlora data split"):
        check_dataset(root)
    (root / "ImageSets").rmdir()
    with pytest.raises(DataError, match=r"it has 6 photos in JPEGImages/, but no lists .*mtlora data split"):
        check_dataset(root)


def test_labels_elsewhere_are_one_line(tmp_path: Path) -> None:
    root = whole(tmp_path)
    for task in ("human_parts", "saliency", "normals"):
        for path in (root / task).iterdir():
            path.unlink()
    (root / "semseg").rename(root / "masks")
    (problem,) = problems(root)
    assert problem.startswith("no photo of these splits has any label: 2, train, val. ")
    assert problem.endswith("there are masks/")


@pytest.mark.parametrize("layout", ["pascal", "nyud"])
def test_published_layouts_are_checked_too(tmp_path: Path, layout: str) -> None:
    published = pytest.importorskip("testing.published_datasets", reason="needs scipy")
    root = getattr(published, f"write_{layout}")(tmp_path)
    report = check_dataset(root)
    assert [problem.line() for problem in report.problems] == []
