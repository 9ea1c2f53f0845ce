"""Any value in any place of a document: the import works or says what is wrong, and is never a crash."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtlora.data.importing.importer import ImportOptions, import_export
from mtlora.vocabulary.errors import DataError
from testing.labelled_exports import Scene, scenes, write_coco, write_cvat, write_label_studio, write_labelme, write_voc
from tests.mtlora.data.importing.small import box

NAMES = ("disc", "square")
ODD: tuple[Any, ...] = (
    None,
    -1,
    2**70,
    float("inf"),
    float("nan"),
    "",
    "x",
    "\ud800",
    True,
    [],
    {},
    [[]],
    [None],
    {"a": 1},
)
ODD_TEXT = ("", "x", "-1", "1e999", "nan", "9" * 30, "1,2;", "\u2028", "0x10", "../..")
SMALL = scenes(1, (40, 36))


def _polygons(root: Path, made: list[Scene]) -> None:
    write_coco(root, made, NAMES, packed=False)
    path = root / "annotations" / "instances_default.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"] = [box(1, 1, 9, 9)]
    document["annotations"][1]["segmentation"]["counts"] = [100, 40, 40 * 36 - 140]
    path.write_text(json.dumps(document))


def _drawn(root: Path, made: list[Scene]) -> None:
    write_label_studio(root, made, NAMES)
    path = root / "project-3.json"
    [task, *_] = json.loads(path.read_text())
    results = task["annotations"][1]["result"]
    results[0]["value"] = {"points": [[1, 1], [50, 1], [50, 50]], "polygonlabels": ["disc"]}
    results[1]["value"] = {"x": 50, "y": 50, "radiusX": 9, "radiusY": 5, "ellipselabels": ["square"]}
    path.write_text(json.dumps([task]))


def _points(root: Path, made: list[Scene]) -> None:
    write_labelme(root, made, NAMES)
    path = root / f"{made[0].name}.json"
    document = json.loads(path.read_text())
    document["shapes"].append({"label": "disc", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"})
    document["shapes"].append({"label": "disc", "points": [[9, 9], [9, 12]], "shape_type": "circle"})
    path.write_text(json.dumps(document))


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys; of long lists the first two."""
    keys: Any = list(document) if isinstance(document, dict) else range(min(2, len(document)))
    for key in keys:
        yield document, key
        if isinstance(document[key], dict | list):
            yield from places(document[key])


def attempt(root: Path) -> None:
    """Import; only a refusal in words may come of it, and then nothing is written."""
    out = root.with_name("out")
    try:
        import_export(root, out, ImportOptions(format=root.name))
    except DataError as error:
        assert str(error).strip()
        assert sorted(root.parent.iterdir()) == [root]
    else:
        shutil.rmtree(out)


@pytest.mark.parametrize(
    ("form", "write"), [("coco", _polygons), ("labelstudio", _drawn), ("labelme", _points)], ids=lambda v: str(v)[:12]
)
def test_any_json(form: str, write: Callable[[Path, list[Scene]], None], tmp_path: Path) -> None:
    root = tmp_path / form
    root.mkdir()
    write(root, SMALL)
    [path] = root.rglob("*.json")
    document = json.loads(path.read_text())
    tried = 0
    for holder, key in list(places(document)):
        before = holder[key]
        for odd in ODD:
            holder[key] = odd
            path.write_text(json.dumps(document))
            attempt(root)
            tried += 1
        holder[key] = before
    assert tried > 300


@pytest.mark.parametrize("form", ["cvat", "voc"])
def test_any_xml(form: str, tmp_path: Path) -> None:
    root = tmp_path / form
    root.mkdir()
    if form == "cvat":
        write_cvat(root, SMALL, NAMES)
        path = root / "annotations.xml"
        more = '<polygon label="disc" points="1,1;9,1;9,9" z_order="0"/>'
        more += '<ellipse label="disc" cx="9" cy="9" rx="4" ry="2" rotation="9" z_order="0"/></image>'
        path.write_text(path.read_text().replace("</image>", more))
        values = r'(?<==")[^"]*(?=")'
    else:
        write_voc(root, SMALL, {"background": (0, 0, 0), "disc": (1, 1, 1), "square": (2, 2, 2)}, palette=True)
        for mask in (root / "SegmentationClass").iterdir():
            mask.unlink()
        path = root / "a.xml"
        ring = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate([(1, 1), (9, 1), (9, 9)], 1))
        path.write_text(
            f"<annotation><filename>{SMALL[0].name}.jpg</filename><size><width>40</width><height>36</height></size>"
            f"<object><name>disc</name><polygon>{ring}</polygon></object></annotation>"
        )
        values = r"(?<=>)[^<>]+(?=<)"
    text = path.read_text()
    attempt(root)
    found = list(re.finditer(values, text))
    assert len(found) > 8
    for match in found:
        for odd in ODD_TEXT:
            path.write_text(text[: match.start()] + odd + text[match.end() :])
            attempt(root)


@pytest.mark.parametrize("form", ["coco", "labelme", "labelstudio", "cvat"])
def test_any_end(form: str, tmp_path: Path) -> None:
    writers: dict[str, Callable[[Path, list[Scene]], None]] = {
        "coco": _polygons,
        "labelme": _points,
        "labelstudio": _drawn,
        "cvat": lambda root, made: write_cvat(root, made, NAMES),
    }
    root = tmp_path / form
    root.mkdir()
    writers[form](root, SMALL)
    [path] = [path for path in root.rglob("*") if path.suffix in {".json", ".xml"}]
    whole = path.read_bytes()
    for end in range(0, len(whole), max(1, len(whole) // 100)):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            import_export(root, root.with_name("out"), ImportOptions(format=form))
