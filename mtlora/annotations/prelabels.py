"""Predicted maps of many photos as what a labelling tool imports, so that people correct in place of drawing."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mtlora.annotations import coco, cvat, label_studio, labelme
from mtlora.annotations.predicted import BACKGROUND, PredictedPhoto
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import TRAITS, Decode, Task

LOCAL_FILES = "/data/local-files/?d="
"""How Label Studio calls files of a folder that it was given as local storage."""
LABEL_STUDIO = "labelstudio"
LEAST_LEVEL = 128  # of 255 * p: one half
LABEL_OF = {Task.SALIENCY: "salient", Task.EDGE: "edge"}


@dataclass(frozen=True, slots=True)
class MapFile:
    """One photo's map on disk.

    photo: the photo itself; name: what the tool is to call it, with folders
    path:  PNG of the photo's size: class indices, or 255 * p
    names: of the classes by index; of saliency and edges it does not matter
    """

    photo: Path
    name: str
    path: Path
    names: Mapping[int, str]

    def read(self, task: Task) -> PredictedPhoto:
        """The map; `DataError` where it cannot be read."""
        try:
            with Image.open(self.path, formats=("PNG",)) as image:
                values = np.asarray(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error
        if values.ndim != 2 or values.dtype != np.uint8:
            raise DataError(f"{self.path} is no map of {task.value}: {values.dtype} {list(values.shape)}")
        if task in LABEL_OF:
            return PredictedPhoto(self.name, (values >= LEAST_LEVEL).astype(np.uint8), {1: LABEL_OF[task]})
        names = {index: plain(name) for index, name in self.names.items()}
        return PredictedPhoto(self.name, values, names)


@dataclass(frozen=True, slots=True)
class Tool:
    """A labelling tool: `write` makes its files of one task's maps; `address` is what `--as TOOL=ADDRESS` adds."""

    name: str
    address: str = ""

    @classmethod
    def parse(cls, text: str) -> "Tool":
        """`NAME`, or for Label Studio `NAME=ADDRESS`; `DataError` lists the names."""
        name, _, address = text.partition("=")
        if name not in _WRITERS or (address and name != LABEL_STUDIO):
            raise DataError(
                f"--as is one of {', '.join(_WRITERS)}, and for Label Studio also {LABEL_STUDIO}=ADDRESS, where "
                f"ADDRESS stands before the photos' names; got {text!r}"
            )
        return cls(name, address)

    def write(self, task: Task, maps: Sequence[MapFile], out: Path) -> Path:
        """Write the document, or a folder of them, into `out`; what was written."""
        return _WRITERS[self.name](self, task, maps, out)


def can_be_drawn(task: Task) -> bool:
    """Whether a task's maps are areas: classes, or a probability that can be cut at one half."""
    return TRAITS[task].decode in {Decode.ARGMAX, Decode.SIGMOID}


def plain(name: str) -> str:
    """A name without what a document cannot hold."""
    return "".join(character if character.isprintable() else "?" for character in name)


def _classes(task: Task, maps: Iterable[MapFile]) -> dict[int, str]:
    if task in LABEL_OF:
        return {1: LABEL_OF[task]}
    found = {index: plain(name) for each in maps for index, name in each.names.items()}
    return {index: found[index] for index in sorted(found) if found[index] != BACKGROUND}


def _write_coco(_: Tool, task: Task, maps: Sequence[MapFile], out: Path) -> Path:
    document = coco.to_dataset((each.read(task) for each in maps), _classes(task, maps))
    return _save(out / f"coco.{task.value}.json", document)


def _write_label_studio(tool: Tool, task: Task, maps: Sequence[MapFile], out: Path) -> Path:
    model = f"mtlora-{task.value}"
    tasks = [label_studio.to_task(each.read(task), model, tool.address or LOCAL_FILES) for each in maps]
    return _save(out / f"labelstudio.{task.value}.json", tasks)


def _write_cvat(_: Tool, task: Task, maps: Sequence[MapFile], out: Path) -> Path:
    path = out / f"cvat.{task.value}.xml"
    with path.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(cvat.to_xml((each.read(task) for each in maps), list(_classes(task, maps).values())))
    return path


def _write_labelme(_: Tool, task: Task, maps: Sequence[MapFile], out: Path) -> Path:
    folder = out / f"labelme.{task.value}"
    for each in maps:
        path = folder / Path(each.name).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = each.photo.resolve()
        document = labelme.to_labelme(each.read(task))
        document["imagePath"] = Path(os.path.relpath(photo, path.parent.resolve())).as_posix()
        _save(path, document)
    return folder


def _save(path: Path, document: object) -> Path:
    # half of a surrogate pair, of a file's name that is no Unicode, stays the escape that JSON has for it
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


_WRITERS: Mapping[str, Callable[[Tool, Task, Sequence[MapFile], Path], Path]] = {
    "coco": _write_coco,
    LABEL_STUDIO: _write_label_studio,
    "cvat": _write_cvat,
    "labelme": _write_labelme,
}
