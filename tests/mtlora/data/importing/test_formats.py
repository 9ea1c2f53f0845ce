"""Every format back to the class maps that it was made of."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mtlora.data.check import check_dataset
from mtlora.data.importing.importer import ImportOptions, ImportReport, import_export
from mtlora.data.importing.recognise import AUTO, FORMATS
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task
from testing.labelled_exports import (
    Scene,
    save_photo,
    scenes,
    write_coco,
    write_cvat,
    write_label_studio,
    write_labelme,
    write_voc,
)

NAMES = ("disc", "square")
COLOURS = {"background": (0, 0, 0), "disc": (200, 10, 10), "square": (10, 10, 200)}
MADE = scenes(5)


def write_yolo(root: Path, made: list[Scene]) -> None:
    """Rectangles, which polygons say exactly; folders of Roboflow's kind."""
    (root / "data.yaml").parent.mkdir(exist_ok=True)
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['disc', 'square']\n")
    for number, scene in enumerate(made):
        folder = root / ("valid" if number == 1 else "train")
        save_photo(scene, folder / "images")
        (folder / "labels").mkdir(exist_ok=True)
        width, height = scene.size
        lines = []
        for left, top, right, bottom in ((4, 4, 12, 30), (20, 10, 21, 11)):
            points = [(left, top), (right, top), (right, bottom), (left, bottom)]
            lines.append("1 " + " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in points))
        (folder / "labels" / f"{scene.name}.txt").write_text("\n".join(lines) + "\n")


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "coco, packed runs": ("coco", lambda root: write_coco(root, MADE, NAMES, packed=True)),
    "coco, plain runs": ("coco", lambda root: write_coco(root, MADE, NAMES, packed=False)),
    "labelme, masks": ("labelme", lambda root: write_labelme(root, MADE, NAMES)),
    "cvat, masks": ("cvat", lambda root: write_cvat(root, MADE, NAMES)),
    "label studio, brush": ("labelstudio", lambda root: write_label_studio(root, MADE, NAMES)),
    "voc, palette": ("voc", lambda root: write_voc(root, MADE, COLOURS, palette=True)),
    "voc, colours": ("voc", lambda root: write_voc(root, MADE, COLOURS, palette=False)),
}


def bring(root: Path, **options: object) -> tuple[ImportReport, Path]:
    out = root.with_name("out")
    return import_export(root, out, ImportOptions(**options)), out  # type: ignore[arg-type]


def labels_of(out: Path, name: str, task: Task = Task.SEMSEG) -> NDArray[np.uint8]:
    return np.asarray(Image.open(out / task.value / f"{name}.png"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("case", WRITERS)
@pytest.mark.parametrize("named", [False, True])
def test_masks_come_back_exactly(case: str, named: bool, root: Path) -> None:
    form, write = WRITERS[case]
    write(root)
    report, out = bring(root, format=form if named else AUTO)
    assert report.format == FORMATS[form].SHOWN
    names = (out / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert names[0] == "background"
    assert sorted(names[1:]) == ["disc", "square"]
    for scene in MADE:
        wanted = np.array([0, names.index("disc"), names.index("square")], np.uint8)[scene.labels]
        np.testing.assert_array_equal(labels_of(out, scene.name), wanted)
        assert (out / "JPEGImages" / f"{scene.name}.jpg").is_symlink()
    checked = check_dataset(out)
    assert checked.problems == ()
    assert {split: count[None] for split, count in checked.counts.items()} == {"train": 4, "val": 1}


def test_voc_s_own_lists_are_kept_unless_a_share_is_asked_for(root: Path) -> None:
    write_voc(root, MADE, COLOURS, palette=True)
    report, out = bring(root)
    assert report.splits["val"] == [MADE[-1].name]
    assert import_export(root, out.with_name("other"), ImportOptions(split=0.4, seed=1)).splits["train"] != []
    assert len(import_export(root, out.with_name("third"), ImportOptions(split=0.4)).splits["train"]) == 2


def test_yolo(root: Path) -> None:
    write_yolo(root, MADE)
    report, out = bring(root)
    assert report.format == "YOLO segmentation"
    assert report.splits["val"] == [f"valid__{MADE[1].name}"]
    labels = labels_of(out, f"train__{MADE[0].name}")
    wanted = np.zeros_like(MADE[0].labels)
    wanted[4:30, 4:12] = 2
    wanted[10, 20] = 2
    np.testing.assert_array_equal(labels, wanted)
    assert report.classes == ("background", "disc", "square")


def test_saliency_and_semseg_of_the_same_shapes(root: Path) -> None:
    write_coco(root, MADE, NAMES, packed=True)
    _, out = bring(root, tasks=(Task.SEMSEG, Task.SALIENCY))
    for scene in MADE:
        np.testing.assert_array_equal(labels_of(out, scene.name, Task.SALIENCY), np.where(scene.labels > 0, 255, 0))


def test_human_parts_keep_their_usual_numbers(root: Path) -> None:
    write_coco(root, MADE, ("torso", "head"), packed=True)
    _, out = bring(root, tasks=(Task.HUMAN_PARTS,))
    wanted = np.array([0, 2, 1], np.uint8)[MADE[0].labels]
    np.testing.assert_array_equal(labels_of(out, MADE[0].name, Task.HUMAN_PARTS), wanted)
    names = (out / "classes-human_parts.txt").read_text().splitlines()
    assert names[:3] == ["background", "head", "torso"]
    assert not (out / "classes.txt").exists()


def test_a_list_of_classes_gives_their_order_and_the_rest_is_background(root: Path) -> None:
    write_coco(root, MADE, NAMES, packed=True)
    (root / "wanted.txt").write_text("square\nspare\n")
    report, out = bring(root, classes=root / "wanted.txt")
    np.testing.assert_array_equal(labels_of(out, MADE[0].name), np.where(MADE[0].labels == 2, 1, 0))
    assert report.classes == ("background", "square", "spare")
    assert any("became background" in note and "disc" in note for note in report.notes)
    assert any("no photo has spare" in note for note in report.notes)


def test_copies_where_links_are_not_wanted(root: Path) -> None:
    write_labelme(root, MADE, NAMES)
    _, out = bring(root, copy=True)
    path = out / "JPEGImages" / f"{MADE[0].name}.jpg"
    assert not path.is_symlink()
    assert path.read_bytes() == (root / f"{MADE[0].name}.jpg").read_bytes()


def test_photos_that_lie_elsewhere(root: Path) -> None:
    write_label_studio(root, MADE, NAMES)
    elsewhere = root.with_name("photos")
    elsewhere.mkdir()
    for path in root.glob("*.jpg"):
        path.rename(elsewhere / path.name)
    with pytest.raises(DataError, match="name it with --photos"):
        bring(root)
    assert not root.with_name("out").exists()
    report, _ = bring(root, photos=(elsewhere,))
    assert sum(map(len, report.splits.values())) == len(MADE)


def test_bad_photos_stop_the_import_or_are_left_out(root: Path) -> None:
    write_labelme(root, MADE, NAMES)
    path = root / f"{MADE[0].name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imageWidth": 61}))
    (root / f"{MADE[1].name}.jpg").write_bytes(b"\xff\xd8\xffnothing")
    with pytest.raises(DataError, match="2 problems; nothing was written") as caught:
        bring(root)
    assert any("labels are for 61 x 48 pixels, the photo has 60 x 48" in problem for problem in caught.value.problems)
    assert list(root.parent.iterdir()) == [root]
    report, out = bring(root, skip_bad=True)
    assert len(report.problems) == 2
    assert sorted(path.stem for path in (out / "semseg").iterdir()) == [scene.name for scene in MADE[2:]]
    with pytest.raises(DataError, match="not empty"):
        bring(root)
