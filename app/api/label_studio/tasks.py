"""What Label Studio asks: tasks with addresses of photos, and the labelling interface, which lists the labels."""

import json
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from app.core.errors import BadBodyError
from app.http.json_body import without_doubles
from mtlora.annotations.label_studio import FROM_NAME, TO_NAME
from mtlora.annotations.xml_text import parse_xml
from mtlora.vocabulary.errors import DataError

MOST_VALUES = 500_000  # tasks come with what people have drawn, run lengths and all
MOST_INTERFACE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Interface:
    """What of a labelling interface matters here.

    tags:   names of the brush labels' tag and of the image's
    key:    of a task's data that has the photo; empty: unknown
    labels: that there are; empty: unknown
    """

    tags: tuple[str, str] = (FROM_NAME, TO_NAME)
    key: str = ""
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """Addresses of the photos, one a task, and the interface."""

    photos: tuple[str, ...]
    interface: Interface


def parse_tasks(body: bytes, most: int) -> Asked:
    """A request for predictions; `BadBodyError` says what is wrong with it. Takes time: not for the event loop."""
    values = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if values > MOST_VALUES:
        raise BadBodyError(f"the JSON body may have {MOST_VALUES} values, this one has {values} or more")
    try:
        document = json.loads(body, object_pairs_hook=without_doubles)
    except (ValueError, RecursionError) as error:
        raise BadBodyError(f"the JSON body cannot be parsed: {str(error)[:200]}") from error
    tasks = document.get("tasks") if isinstance(document, dict) else None
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
        raise BadBodyError('the JSON body must be an object with "tasks", a list of one task or more')
    if len(tasks) > most:
        raise BadBodyError(
            f"a request may have {most} tasks (MTLORA_MAX_IMAGES), this one has {len(tasks)}: mark fewer at a time"
        )
    interface = parse_interface(document.get("label_config"))
    return Asked(tuple(_photo(task, interface) for task in tasks), interface)


def parse_interface(text: Any) -> Interface:
    """The labelling interface; of one that cannot be read, or has no brush labels, Label Studio's own template."""
    if not isinstance(text, str) or not text.strip():
        return Interface()
    if len(text) > MOST_INTERFACE_BYTES:
        raise BadBodyError(f"label_config may have {MOST_INTERFACE_BYTES} characters, it has {len(text)}")
    try:
        root = parse_xml(text.encode("utf-8", "replace"), "label_config")
    except DataError as error:
        raise BadBodyError(str(error)) from error
    brush = next(root.iter("BrushLabels"), None)
    if brush is None:
        kinds = ", ".join(sorted({one.tag for one in root.iter() if one.tag.endswith("Labels")})) or "no labels"
        raise BadBodyError(
            f"predictions are brush labels; the labelling interface has {kinds[:200]}: add <BrushLabels>"
        )
    image = _image(root, brush.get("toName", ""))
    labels = frozenset(label.get("value", "") for label in brush.iter("Label"))
    key = image.get("value", "").removeprefix("$") if image is not None else ""
    return Interface((brush.get("name", FROM_NAME), brush.get("toName", TO_NAME)), key, labels)


def _image(root: Element, name: str) -> Element | None:
    images = list(root.iter("Image"))
    return next((image for image in images if image.get("name") == name), images[0] if images else None)


def _photo(task: dict[str, Any], interface: Interface) -> str:
    data = task.get("data")
    if not isinstance(data, dict):
        raise BadBodyError(f'a task must have an object "data", got {type(data).__name__}')
    keys = (interface.key, "image", *data) if interface.key not in data else (interface.key,)
    found = next((data[key] for key in keys if isinstance(data.get(key), str)), None)
    if found is None:
        raise BadBodyError(f"a task's data has no address of a photo: {', '.join(map(str, data))[:80] or 'nothing'}")
    return str(found)
