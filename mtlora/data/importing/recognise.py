"""Which tool an export is from."""

from pathlib import Path
from types import ModuleType

from mtlora.data.importing import coco, cvat, label_studio, labelme, masks, voc, yolo
from mtlora.data.importing.source import Source
from mtlora.vocabulary.errors import DataError

FORMATS: dict[str, ModuleType] = {
    module.NAME: module for module in (coco, labelme, label_studio, cvat, yolo, voc, masks)
}
"""Modules with `NAME`, `SHOWN`, `recognise` and `read`, by name; the first that recognises an export reads it."""
AUTO = "auto"
_LOOKED_AT = 20_000  # files, for a guess that is only worth a sentence


def find_format(name: str, source: Source) -> ModuleType:
    """The format of a name, or for `auto` the one that the export has; `DataError` lists them."""
    if name in FORMATS:
        return FORMATS[name]
    known = ", ".join(FORMATS)
    if name != AUTO:
        raise DataError(f"no format {name!r}; there are {AUTO}, {known}")
    for module in FORMATS.values():
        if module.recognise(source):
            return module
    raise DataError(f"{source.path} is no export that is known: {known}; docs/importing.md says what each looks like")


def advice(root: Path) -> str:
    """What to do with a folder that is no dataset but an export, in words; empty if it is none that is known."""
    source = Source(root)
    if len(source.files) > _LOOKED_AT:
        return ""
    for module in FORMATS.values():
        if module.recognise(source):
            return f"it looks like {module.SHOWN}: mtlora data import {module.NAME} {root} OUT"
    return ""
