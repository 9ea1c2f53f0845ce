"""Exports that are wrong or mean harm: a clear error, and nothing written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlora.data.importing.importer import ImportOptions, import_export
from mtlora.vocabulary.errors import DataError
from testing.labelled_exports import save_photo, scenes, write_coco, write_cvat, write_label_studio, write_labelme

NAMES = ("disc", "square")
MADE = scenes(2)
DOCUMENT = "annotations/instances_default.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    return folder


def problems_of(root: Path, **options: Any) -> str:
    """All that an import says; it must write nothing."""
    before = sorted(path for path in root.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        import_export(root, root.with_name("out"), ImportOptions(**options))
    assert sorted(path for path in root.parent.rglob("*")) == before
    return "\n".join([str(caught.value), *caught.value.problems])


def changed_coco(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    write_coco(root, MADE, NAMES, packed=True)
    path = root / DOCUMENT
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("form", "name", "text", "said"),
    [
        ("coco", "a.json", '{"images": [], "annotations": [', "is no JSON"),
        ("coco", "a.json", '{"images": ' + "[" * 200_000 + ', "annotations": 1, "categories": 2}', "is no JSON"),
        ("coco", "a.json", '{"images": 7, "annotations": [], "categories": []}', "'images' must be a list of objects"),
        ("coco", "a.json", '{"images": [], "annotations": [1], "categories": []}', "'annotations' must be a list"),
        ("coco", "a.json", '{"images": [], "annotations": [], "categories": [{"id": 1}]}', "a class needs a name"),
        ("labelme", "a.json", '{"shapes": 3, "imagePath": "a.jpg"}', "'shapes' must be a list of objects"),
        ("labelme", "a.json", '{"shapes": ' + "[" * 200_000, "is no JSON"),
        ("labelstudio", "a.json", '[{"data": {"image": "a.jpg"}, "annotations": 5}]', "'annotations' must be a list"),
        ("labelstudio", "a.json", '[{"data": "a.jpg"}, 5]', "a list of tasks was expected"),
        ("cvat", "a.xml", "<annotations><image", "a.xml"),
        (
            "cvat",
            "a.xml",
            '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>',
            "document type",
        ),
        ("cvat", "a.xml", "<annotations><track/></annotations>", "CVAT for images 1.1"),
        ("voc", "a.xml", "<annotation><object>", "a.xml"),
        ("yolo", "data.yaml", "names: []\n", "names 0 classes"),
        ("yolo", "data.yaml", "names: !!python/object/apply:os.system [ls]\n", "no data.yaml"),
        ("yolo", "data.yaml", "names: {a: disc}\n", "number of a class must be a whole number"),
        ("auto", "notes.txt", "nothing", "docs/importing.md"),
        ("tiff", "notes.txt", "nothing", "no format 'tiff'; there are auto, coco"),
    ],
)
def test_documents_that_are_none(form: str, name: str, text: str, said: str, root: Path) -> None:
    save_photo(MADE[0], root)
    (root / name).write_text(text)
    assert said in problems_of(root, format=form)


@pytest.mark.parametrize("form", ["coco", "labelme", "labelstudio", "cvat", "yolo", "voc", "masks"])
def test_a_folder_without_the_format_says_what_it_looks_like(form: str, root: Path) -> None:
    save_photo(MADE[0], root)
    assert "has no" in problems_of(root, format=form)


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder or file"):
        import_export(tmp_path / "gone", tmp_path / "out", ImportOptions())


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "../../export/../secret.jpg", "/{outside}/secret.jpg", "..\\secret.jpg"]
)
def test_names_do_not_lead_out_of_the_export(name: str, root: Path) -> None:
    save_photo(MADE[0], root.parent)
    (root.parent / f"{MADE[0].name}.jpg").rename(root.parent / "secret.jpg")
    asked = name.replace("/{outside}", str(root.parent))
    changed_coco(root, lambda document: document["images"][0].update(file_name=asked))
    assert f"photo {asked!r} is not there" in problems_of(root)


@pytest.mark.parametrize("write", [write_labelme, write_cvat])
def test_links_out_of_the_export_are_not_followed(write: Callable[..., None], root: Path) -> None:
    write(root, MADE, NAMES)
    photo = next(root.rglob(f"{MADE[0].name}.jpg"))
    outside = root.with_name("secret.jpg")
    photo.rename(outside)
    photo.symlink_to(outside)
    assert "is a link out of the export's folder" in problems_of(root)


def test_documents_over_a_link_are_not_read(root: Path) -> None:
    write_labelme(root, MADE[:1], NAMES)
    outside = root.with_name("secret.json")
    (root / f"{MADE[0].name}.json").rename(outside)
    (root / f"{MADE[0].name}.json").symlink_to(outside)
    assert "no LabelMe document" in problems_of(root, format="labelme")


def test_linked_folders_are_not_entered(root: Path) -> None:
    write_coco(root, MADE, NAMES, packed=True)
    (root / "images").rename(root.with_name("images"))
    (root / "images").symlink_to(root.with_name("images"))
    found = problems_of(root)
    assert all(f"photo '{scene.name}.jpg' is not there" in found for scene in MADE)


def _segmentation(value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["annotations"][0].update(segmentation=value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_segmentation({"size": [48, 60], "counts": [10**12]}), "run lengths"),
        (_segmentation({"size": [48, 60], "counts": [-5, 2885]}), "run lengths"),
        (_segmentation({"size": [48, 60], "counts": [10]}), "run lengths"),
        (_segmentation({"size": [48, 60], "counts": [2**62, 2**62, 2**62, 2**62, 2880]}), "run lengths of 184467"),
        (_segmentation({"size": [48], "counts": [2880]}), "the size of run lengths is a list of height and width"),
        (_segmentation({"size": [10**9, 10**9], "counts": [1]}), "run lengths of 1000000000 x 1000000000 pixels"),
        (_segmentation({"size": [48, 60], "counts": "~~~~~"}), "run lengths"),
        (_segmentation({"size": [48, 60], "counts": {"a": 1}}), "run lengths are text or a list"),
        (_segmentation([[1, 2, 3, 4, 5, "x"]]), "a polygon is a list of numbers"),
        (_segmentation([[1, 2, 3, 4, 5, 6, 7]]), "a polygon is a list of numbers"),
        (_segmentation([[1, 2, 3, 4, 5, float("nan")]]), "a coordinate that is no number"),
        (_segmentation([[1, 2, 3, 4, 5, 1e300]]), "a coordinate that is no number"),
        (_segmentation([[0, 0, 5, 5, 0, 5] * 400_000]), "a polygon has 3 to 1000000 points"),
        (lambda d: d["images"][0].update(width=10**8), "width must be a whole number from 0 to 65535"),
        (lambda d: d["images"][0].update(width=59), "the labels are for 59 x 48 pixels, the photo has 60 x 48"),
        (lambda d: d["images"][0].update(file_name=""), "a photo without a name"),
        (lambda d: d["images"][0].update(file_name="https://example.org/x.jpg"), "is not there"),
        (lambda d: d["images"].append(d["images"][0]), "labelled twice"),
        (lambda d: d["images"][1].update(file_name=d["images"][0]["file_name"]), "labelled twice"),
        (lambda d: d["annotations"][0].update(category_id=77), "category 77 is not among"),
        (lambda d: d["annotations"][0].update(image_id="x"), "image_id of an annotation must be a whole number"),
        (lambda d: d["categories"][0].update(name="a\x00b"), "printable"),
        (
            lambda d: d["categories"].extend({"id": 100 + n, "name": f"c{n}"} for n in range(300)),
            "can be told apart",
        ),
    ],
)
def test_coco_that_is_wrong(change: Callable[[dict[str, Any]], object], said: str, root: Path) -> None:
    changed_coco(root, change)
    assert said in problems_of(root)


def test_names_of_two_photos(root: Path) -> None:
    write_labelme(root, MADE[:1], NAMES)
    for folder in ("a", "b"):
        save_photo(MADE[0], root / folder)
    (root / f"{MADE[0].name}.jpg").unlink()
    assert "may be a/IMG 000.jpg or b/IMG 000.jpg" in problems_of(root)


def test_photos_without_labels_of_one_size_only(root: Path) -> None:
    write_labelme(root, MADE[:1], NAMES)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(root / f"{MADE[0].name}.jpg")
    assert "the photo has 20 x 20" in problems_of(root)


def test_a_huge_photo_is_refused_by_its_head(root: Path) -> None:
    write_labelme(root, MADE[:1], NAMES)
    path = root / f"{MADE[0].name}.json"
    photo = root / "huge.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(photo)
    data = bytearray(photo.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    photo.write_bytes(bytes(data))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imagePath": "huge.png"}))
    assert "huge.png cannot be read as a photo" in problems_of(root)


def test_a_mask_beyond_its_photo(root: Path) -> None:
    write_cvat(root, MADE[:1], NAMES)
    path = root / "annotations.xml"
    path.write_text(path.read_text().replace('left="', 'left="9'))
    assert "does not lie within the image" in problems_of(root)


def test_a_mask_of_another_size_than_its_box(root: Path) -> None:
    write_labelme(root, MADE[:1], NAMES)
    path = root / f"{MADE[0].name}.json"
    document = json.loads(path.read_text())
    document["shapes"][0]["points"][1][0] += 1
    path.write_text(json.dumps(document))
    assert "a mask's PNG has" in problems_of(root)


@pytest.mark.parametrize("runs", [[], [0, 0, 0, 1], [255] * 20, ["a"], [10**9] * 9, None])
def test_brushes_that_are_torn(runs: Any, root: Path) -> None:
    write_label_studio(root, MADE[:1], NAMES)
    path = root / "project-3.json"
    document = json.loads(path.read_text())
    document[0]["annotations"][1]["result"][0]["value"]["rle"] = runs
    path.write_text(json.dumps(document))
    assert "1 problems; nothing was written" in problems_of(root)


def test_predictions_are_nobody_s_labels(root: Path) -> None:
    write_label_studio(root, MADE, NAMES)
    path = root / "project-3.json"
    tasks = [{"data": task["data"], "predictions": [{"result": []}]} for task in json.loads(path.read_text())]
    path.write_text(json.dumps(tasks))
    assert "has no photo with labels: 3 tasks that nobody has labelled" in problems_of(root, format="labelstudio")


@pytest.mark.parametrize(
    "line", ["0 0.1 0.1 0.2", "0 a b c d e f", "7 0 0 1 0 1 1", "0 nan 0 1 0 1 1", "0 1e99 0 1 0 1 1"]
)
def test_yolo_lines(line: str, root: Path) -> None:
    (root / "data.yaml").write_text("names: [disc]\n")
    save_photo(MADE[0], root / "images")
    (root / "labels").mkdir()
    (root / "labels" / f"{MADE[0].name}.txt").write_text(f"{line}\n")
    assert "1 problems" in problems_of(root)
