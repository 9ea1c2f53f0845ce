"""The configuration file: TOML, one setting a line, called as in `Settings`; `-` does as well as `_`."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from app.core.errors import ConfigFileError

MAX_BYTES = 2**20
Fields = Mapping[str, FieldInfo]


def read_config(path: Path, fields: Fields) -> dict[str, Any]:
    """The settings in a file, not yet validated; `ConfigFileError` lists everything in it that is no setting."""
    values: dict[str, Any] = {}
    problems = []
    for key, value in _document(path).items():
        name = key.replace("-", "_")
        if fault := _fault(name, value, fields, values):
            problems.append(f"{path}: {key!r}: {fault}")
        else:
            values[name] = _beside(path, value) if _is_path(fields[name]) else value
    if problems:
        raise ConfigFileError(f"{path} is not a configuration file", problems)
    return values


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigFileError(f"the configuration file {path} cannot be read: {error.strerror or error}") from error
    if len(text) > MAX_BYTES:
        raise ConfigFileError(f"the configuration file {path} has more than {MAX_BYTES} bytes")
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigFileError(f"the configuration file {path} is not TOML: {error}") from None


def _fault(name: str, value: object, fields: Fields, seen: Mapping[str, Any]) -> str:
    """What is wrong with a key, whatever its value means; empty: nothing."""
    if name == "config":
        return "a configuration file cannot name another"
    if name not in fields:
        near = difflib.get_close_matches(name.lower().removeprefix("mtlora_"), fields, n=1)
        return f"there is no such setting{f'; did you mean {near[0]}?' if near else ', see mtlora serve --help'}"
    if name in seen:
        return "is there twice"
    if not isinstance(value, str | int | float):
        return f"must be a text, a number, true or false, got {type(value).__name__}"
    if isinstance(value, bool) and fields[name].annotation is not bool:
        return f"cannot be {str(value).lower()}"
    return ""


def _is_path(info: FieldInfo) -> bool:
    return info.annotation is Path or Path in get_args(info.annotation)


def _beside(config: Path, value: object) -> object:
    """A path in a file is relative to the file: what it means must not depend on where the server is started."""
    return config.absolute().parent / Path(value).expanduser() if isinstance(value, str) and value else value
