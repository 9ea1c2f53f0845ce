"""Label Studio's JSON and JSON-MIN: polygons, ellipses and brush labels."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from mtlora.data.importing.documents import read_json, whole
from mtlora.data.importing.photos import FoundPhoto
from mtlora.data.importing.shapes import Area, BrushRuns, Export, LabelledPhoto, Overlap, Polygons, Shape, class_name
from mtlora.data.importing.source import Source
from mtlora.vocabulary.errors import DataError

NAME = "labelstudio"
SHOWN = "Label Studio JSON"
ELLIPSE_POINTS = 180
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # put before the names of files that were uploaded
_PHOTO_KEYS = ("image", "img", "photo", "picture")
_KINDS = {"polygonlabels": "polygon", "ellipselabels": "ellipse", "brushlabels": "brush", "rectanglelabels": "box"}


def recognise(source: Source) -> bool:
    """Whether there is a list of tasks."""
    return bool(source.documents(NAME))


def read(source: Source) -> Export:
    """Every task that somebody has labelled."""
    export = Export(SHOWN, Overlap.LATER)
    paths = source.documents(NAME)
    if not paths:
        raise DataError(f"{source.path} has no Label Studio document: a .json file with a list of tasks")
    for path in paths:
        tasks = read_json(path)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise DataError(f"{path.name}: a list of tasks was expected: export as JSON or JSON-MIN")
        for number, task in enumerate(tasks):
            try:
                _read_task(source, path, task, export)
            except DataError as error:
                export.problems.append(f"{path.name}: task {str(task.get('id', number))[:40]}: {error}")
    export.sort_classes()
    return export


def _read_task(source: Source, path: Path, task: dict[str, Any], export: Export) -> None:
    results = _results(task, export)
    if results is None:
        export.left_out["tasks that nobody has labelled"] += 1
        return
    photo = _find(source, path, task)
    names = {str(result.get("id")): _label(result) for result in results if _label(result)}
    sizes, shapes = set(), []
    for result in results:
        value = result.get("value", result)
        kind = _kind(value)
        if kind in {"", "box"}:
            label = "boxes, which are no outlines" if kind else f"results of type {str(result.get('type'))[:40]}"
            export.left_out[label] += kind == "box" or result.get("type") not in {"labels", "choices"}
            continue
        size = tuple(
            whole(result.get(f"original_{side}"), f"original_{side}", 1, 65_535) for side in ("width", "height")
        )
        if result.get("image_rotation"):
            raise DataError(
                f"it was turned by {result['image_rotation']} degrees in the tool: turn the photo, not the view"
            )
        sizes.add(size)
        name = class_name(_label(result) or names.get(str(result.get("id"))), "its labels")
        export.add_class(name)
        shapes.append(Shape(name, _area(kind, value, *size)))
    if len(sizes) > 1:
        raise DataError(f"its labels are for photos of different sizes: {sorted(sizes)}")
    width, height = sizes.pop() if sizes else (0, 0)
    export.photos.append(LabelledPhoto(photo, width, height, tuple(shapes), split=photo.split))


def _results(task: dict[str, Any], export: Export) -> list[dict[str, Any]] | None:
    """The results of a task's annotation that counts: of several, what is marked as true, else the last one."""
    if "annotations" not in task and "completions" not in task:
        lists = [value for key, value in task.items() if key != "predictions" and isinstance(value, list)]
        found = [value for value in lists if value and isinstance(value[0], dict)]
        results = [result for results in found for result in results if isinstance(result, dict)]
        return results if found else None
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise DataError(f"'annotations' must be a list of objects, got {type(annotations).__name__}")
    done = [one for one in annotations if not one.get("was_cancelled")]
    if not done:
        return None
    if len(done) > 1:
        export.left_out["annotations of tasks that have several"] += len(done) - 1
    last = max(done, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at", ""))))
    results = last.get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise DataError(f"'result' must be a list of objects, got {type(results).__name__}")
    return results


def _label(result: dict[str, Any]) -> str:
    value = result.get("value", result)
    for key in (*_KINDS, "labels"):
        found = value.get(key) if isinstance(value, dict) else None
        if isinstance(found, list) and found:
            return str(found[0])
    return ""


def _kind(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    if value.get("format") == "rle" or "rle" in value:
        return "brush"
    if "points" in value:
        return "polygon"
    if "radiusX" in value:
        return "ellipse"
    return "box" if {"x", "y", "width", "height"} <= value.keys() else ""


def _area(kind: str, value: dict[str, Any], width: int, height: int) -> Area:
    if kind == "brush":
        runs = value.get("rle")
        if not isinstance(runs, list):
            raise DataError(f"'rle' is a list of numbers, got {type(runs).__name__}")
        return BrushRuns(runs)
    scale = np.array([width, height]) / 100  # what Label Studio writes are percents
    if kind == "ellipse":
        return Polygons((_ellipse(value, scale),))
    try:
        return Polygons((np.array(value["points"], dtype=np.float64).reshape(-1, 2) * scale,))
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"points are a list of [x, y], got {str(value.get('points'))[:60]}") from None


def _ellipse(value: dict[str, Any], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        x, y, rx, ry, turn = (float(value.get(k) or 0) for k in ("x", "y", "radiusX", "radiusY", "rotation"))
    except (TypeError, ValueError):
        raise DataError("an ellipse has the numbers x, y, radiusX and radiusY") from None
    if not np.isfinite([x, y, rx, ry, turn]).all():
        raise DataError(f"an ellipse has finite numbers, got {x}, {y}, {rx}, {ry} and the rotation {turn}")
    angles = np.arange(ELLIPSE_POINTS) * (2 * np.pi / ELLIPSE_POINTS)
    along, across, turned = rx * scale[0] * np.cos(angles), ry * scale[1] * np.sin(angles), np.deg2rad(turn)
    points = [along * np.cos(turned) - across * np.sin(turned), along * np.sin(turned) + across * np.cos(turned)]
    ring: NDArray[np.float64] = np.stack(points, axis=1) + np.array([x, y]) * scale
    return ring


def _find(source: Source, path: Path, task: dict[str, Any]) -> FoundPhoto:
    """The photo of a task: its address is only looked at for the name at its end, never opened."""
    data = task.get("data", task)
    if not isinstance(data, dict):
        raise DataError(f"'data' must be an object, got {type(data).__name__}")
    addresses = [str(data[key]) for key in (*_PHOTO_KEYS, *data) if isinstance(data.get(key), str)]
    if not addresses:
        raise DataError(f"its data has no photo: {', '.join(map(str, data))[:60]}")
    names = [name for address in addresses[:1] for name in _names(address)]
    problem = None
    for name in [*names, *([str(task["file_upload"])] if task.get("file_upload") else [])]:
        try:
            return source.photos.find(name, source.place(path))
        except DataError as error:
            problem = problem or error
    raise problem or DataError(f"its data has no photo: {addresses[0][:60]}")


def _names(address: str) -> Iterator[str]:
    """What a photo at an address may be called: with Label Studio's prefix of uploads, and without."""
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d", [""])[0]
    except ValueError:
        raise DataError(f"{address[:60]!r} is no address of a photo") from None
    name = local or unquote(parts.path)
    yield name
    folder, _, file = name.rpartition("/")
    if _UPLOADED.match(file):
        yield f"{folder}/{_UPLOADED.sub('', file)}"
