"""Maps go to a labelling tool and come back through the import."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mtlora.annotations.prelabels import MapFile, Tool
from mtlora.data.importing.importer import ImportOptions, import_export
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task

Labels = NDArray[np.uint8]
NAMES = {0: "background", 1: "disc", 2: "Würfel & <square>", 3: "never seen"}
TOOLS = ("coco", "labelstudio", "cvat", "labelme")
EXACT = ("labelstudio", "cvat")
REACH_PX = 2


def straight() -> Labels:
    """Upright and level edges alone: a frame with another class and a hole in it, single pixels, the corners."""
    labels = np.zeros((48, 60), np.uint8)
    labels[5:40, 10:50] = 1
    labels[10:30, 15:40] = 0
    labels[14:20, 20:30] = 2
    labels[30:36, 15:40] = 2
    labels[0, 0] = labels[-1, -1] = 2
    labels[45, 3:9] = 1
    return labels


def round_shapes() -> Labels:
    """A ring with a disc of another class in it, on a photo that is higher than wide."""
    y, x = np.mgrid[:80, :52]
    away = np.hypot(x - 25, y - 40)
    labels = np.zeros((80, 52), np.uint8)
    labels[away < 22] = 1
    labels[away < 9] = 2
    labels[70:76, 4:20] = 2
    return labels


def nothing() -> Labels:
    """Background all over."""
    return np.zeros((30, 40), np.uint8)


MADE = {"a b/straight": straight(), "a b/round": round_shapes(), "nothing": nothing()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, labels in MADE.items():
        path = tmp_path / "photos" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(labels[:, :, None] * 60, 3, axis=2)).save(path)
    return tmp_path / "photos"


def written(tool: str, task: Task, photos: Path) -> Path:
    """The maps, and what `--as` writes of them."""
    out = photos.with_name("maps")
    maps = []
    for name, labels in MADE.items():
        path = out / f"{name}.{task.value}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = labels if task is Task.SEMSEG else np.where(labels > 0, 200, 90).astype(np.uint8)
        Image.fromarray(values).save(path)
        maps.append(MapFile(photos / f"{name}.jpg", f"{name}.jpg", path, NAMES))
    found = Tool.parse(tool).write(task, maps, out)
    if tool.startswith("labelstudio"):
        _accept(found)
    return found


def _accept(path: Path) -> None:
    """What Label Studio makes of a prediction that somebody submits."""
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["annotations"] = [{"id": 1, "result": task["predictions"][0]["result"]}]
    path.write_text(json.dumps(tasks))


def brought(tool: str, task: Task, photos: Path) -> dict[str, Labels]:
    """Labels by photo, of the dataset that the import makes."""
    document, out = written(tool, task, photos), photos.with_name("dataset")
    classes = photos.with_name("classes.txt")
    classes.write_text("".join(f"{NAMES[index]}\n" for index in NAMES), encoding="utf-8")
    options = ImportOptions(tasks=(task,), photos=(photos,), classes=classes if task is Task.SEMSEG else None)
    import_export(document, out, options)
    ids = {name: name.replace("/", "__") for name in MADE}
    return {name: np.asarray(Image.open(out / task.value / f"{ids[name]}.png")) for name in MADE}


def near_edges(labels: Labels) -> NDArray[np.bool_]:
    """Pixels with another class within `REACH_PX` of them."""
    padded = np.pad(labels, REACH_PX, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * REACH_PX + 1,) * 2)
    return np.asarray(windows.max(axis=(2, 3)) != windows.min(axis=(2, 3)))


@pytest.mark.parametrize("tool", TOOLS)
def test_class_maps_come_back(tool: str, photos: Path) -> None:
    found = brought(tool, Task.SEMSEG, photos)
    for name, labels in found.items():
        wrong = labels != MADE[name]
        if tool in EXACT or "round" not in name:
            assert not wrong.any(), name
        assert not (wrong & ~near_edges(MADE[name])).any()
        assert wrong.mean() < 0.05


@pytest.mark.parametrize("tool", TOOLS)
def test_saliency_comes_back_as_one_label(tool: str, photos: Path) -> None:
    found = brought(tool, Task.SALIENCY, photos)
    for name, labels in found.items():
        wanted = np.where(MADE[name] > 0, 255, 0)
        wrong = labels != wanted
        assert not (wrong & ~near_edges(MADE[name])).any()
        assert not (wrong.any() and tool in EXACT)


def test_label_studio_is_told_where_photos_lie(photos: Path) -> None:
    tasks = json.loads(written("labelstudio", Task.SEMSEG, photos).read_text())
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=a b/straight.jpg"
    tasks = json.loads(written("labelstudio=s3://bucket/", Task.SEMSEG, photos).read_text())
    assert tasks[0]["data"]["image"] == "s3://bucket/a b/straight.jpg"


def test_labelme_documents_point_to_their_photos(photos: Path) -> None:
    folder = written("labelme", Task.SEMSEG, photos)
    path = folder / "a b" / "straight.json"
    document = json.loads(path.read_text())
    assert (path.parent / document["imagePath"]).resolve() == (photos / "a b" / "straight.jpg").resolve()


def test_classes_that_no_photo_has_are_labels_of_the_tool_all_the_same(photos: Path) -> None:
    document = json.loads(written("coco", Task.SEMSEG, photos).read_text())
    assert [(one["id"], one["name"]) for one in document["categories"]] == [(i, NAMES[i]) for i in (1, 2, 3)]
    assert "<name>never seen</name>" in written("cvat", Task.SEMSEG, photos).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "yolo", "coco=x", "COCO", "=x"])
def test_other_tools_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="coco, labelstudio, cvat, labelme"):
        Tool.parse(text)


def test_maps_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.semseg.png"
    path.write_bytes(b"nothing")
    each = MapFile(tmp_path / "x.jpg", "x.jpg", path, NAMES)
    with pytest.raises(DataError, match="cannot be read"):
        each.read(Task.SEMSEG)
    Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match="is no map of semseg"):
        each.read(Task.SEMSEG)
