"""Documents of an export read within bounds: JSON, XML without entities, YAML without objects."""

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import yaml

from mtlora.annotations.xml_text import parse_xml
from mtlora.vocabulary.errors import DataError

MOST_BYTES = 2**30  # COCO's own largest document has 450 MB
MOST_TEXT_BYTES = 2**20  # of YAML, and of lists
_HEAD_BYTES = 1 << 16


def read_json(path: Path) -> Any:
    """Whatever a JSON file holds; `DataError` says what is wrong with it."""
    try:
        return json.loads(_bytes(path, MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}") from error


def read_xml(path: Path) -> Element:
    """The root of an XML file. `DataError` also where it declares a document type: entities are never expanded."""
    return parse_xml(_bytes(path, MOST_BYTES), str(path))


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, plain values only."""
    try:
        return yaml.safe_load(_bytes(path, MOST_TEXT_BYTES))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is no YAML: {error}") from error


def read_lines(path: Path, most_bytes: int = MOST_BYTES) -> list[str]:
    """Lines of a text in UTF-8 that are not empty, without the blanks around them."""
    try:
        text = _bytes(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def json_kind(path: Path) -> str:
    """Which tool a JSON file seems to be from, by its first and last bytes: coco, labelme, labelstudio or nothing."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
        file.seek(max(0, path.stat().st_size - _HEAD_BYTES))
        ends = head + file.read(_HEAD_BYTES)
    if head.startswith(b"[") and any(key in ends for key in (b'"annotations"', b'"original_width"', b'"data"')):
        return "labelstudio"
    if not head.startswith(b"{"):
        return ""
    if b'"shapes"' in ends or b'"imagePath"' in ends:
        return "labelme"
    return "coco" if sum(key in ends for key in (b'"images"', b'"annotations"', b'"categories"')) > 1 else ""


def listed(document: Any, key: str, where: str) -> list[dict[str, Any]]:
    """A list of objects under a key; `DataError` where it is something else."""
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f"{where}: {key!r} must be a list of objects, got {type(found).__name__}")
    return found


def whole(value: Any, where: str, least: int = 0, most: int = 10**9) -> int:
    """A whole number within bounds, also written as text or as 400.0; `DataError` where it is none."""
    try:
        number = float(value)
        if not isinstance(value, bool) and number.is_integer() and least <= number <= most:
            return int(number)
    except (TypeError, ValueError):
        pass
    raise DataError(f"{where} must be a whole number from {least} to {most}, got {str(value)[:40]!r}")


def _bytes(path: Path, most: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > most:
            raise DataError(f"{path} has {size} bytes; {most} are read: export it in parts")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
