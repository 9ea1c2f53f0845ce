"""The option `--as` of the commands that predict: maps also as what a labelling tool imports. Needs no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.cli.say import say

if TYPE_CHECKING:
    from mtlora.annotations.prelabels import MapFile
    from mtlora.client.folder import FolderReport, Source, Wanted
    from mtlora.vocabulary.tasks import Task

AsOption = Annotated[
    str,
    typer.Option("--as", help="Also write what a labelling tool imports: coco, labelstudio, cvat or labelme."),
]


def check_tool(text: str) -> None:
    """Refuse a tool that nobody knows before anything is predicted."""
    from mtlora.annotations.prelabels import Tool

    if text:
        Tool.parse(text)


def write_for_tool(text: str, maps: Mapping["Task", Sequence["MapFile"]], out: Path) -> None:
    """Write the documents of each task whose maps are areas, and say where."""
    from mtlora.annotations.prelabels import Tool, can_be_drawn
    from mtlora.vocabulary.errors import TaskError

    drawn = [task for task in maps if maps[task] and can_be_drawn(task)]
    if not drawn:
        raise TaskError(f"no map of {', '.join(task.value for task in maps) or 'any task'} is areas: ask for semseg")
    for task in drawn:
        say(str(Tool.parse(text).write(task, maps[task], out)))


def maps_of_folder(
    sources: Iterable["Source"], wanted: "Wanted", report: "FolderReport"
) -> dict["Task", list["MapFile"]]:
    """The maps that a server's answers left in a folder, by task; class names are those of the records."""
    from mtlora.annotations.prelabels import MapFile
    from mtlora.vocabulary.tasks import Task

    found: dict[Task, list[MapFile]] = {}
    for source in sources:
        if source.photo in report.failed:
            continue
        record = json.loads((wanted.out / f"{source.base}.json").read_bytes())
        for task in Task:
            asked = not wanted.tasks or task.value in wanted.tasks
            if asked and task.value in record["tasks"]:
                path = wanted.out / f"{source.base}.{task.value}.png"
                name = Path(source.base).with_name(source.photo.name).as_posix()
                found.setdefault(task, []).append(MapFile(source.photo, name, path, _names(record, task)))
    return found


def _names(record: Mapping[str, Any], task: "Task") -> dict[int, str]:
    """Names of the classes that a record says are there; what is no class is left away."""
    about = record["tasks"][task.value] if isinstance(record["tasks"], dict) else {}
    classes = about.get("classes", []) if isinstance(about, dict) else []
    return {
        one["id"]: one["name"]
        for one in classes
        if isinstance(one, dict) and isinstance(one.get("id"), int) and isinstance(one.get("name"), str)
    }
