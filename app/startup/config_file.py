"""The configuration file: TOML, one setting a line, named as in `Settings`; `-` does as well as `_`."""

import difflib
import errno
import io
import os
import select
import stat
import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic.fields import FieldInfo

from app.core.errors import ConfigFileError

MAX_BYTES = 2**20
PIPE_S = 5.0
"""How long a pipe may take: `--config <(command)` is as good as a file, one that nobody writes to is a fault."""

SHOWN_CHARACTERS = 60
_KINDS: dict[type, str] = {dict: "a table", list: "an array"}
_NO_TABLES = "settings stand at the top level of the file, without tables"
Fields = Mapping[str, FieldInfo]


class Problem(NamedTuple):
    """What is wrong with a line, and the setting that may be meant by it."""

    detail: str
    about: str = ""


class Configuration(NamedTuple):
    """What a file says: values, not yet validated, of what is a setting, and what is none."""

    values: dict[str, Any]
    problems: list[Problem]


def read_config(path: Path, fields: Fields) -> dict[str, Any]:
    """The settings in a file, not yet validated; `ConfigFileError` lists everything in it that is no setting."""
    found = examine_config(path, fields)
    if found.problems:
        raise ConfigFileError(f"{path} is not a configuration file", [problem.detail for problem in found.problems])
    return found.values


def examine_config(path: Path, fields: Fields) -> Configuration:
    """The settings in a file and everything that is wrong with it; `ConfigFileError` if it cannot be read at all."""
    found = Configuration({}, [])
    for key, value in _document(path).items():
        tables = [] if _name(key) in fields else _tables(value)
        if not tables:
            _take(found, path, (key,), value, fields)
            continue
        settings = [item for table in tables for item in table.items()]
        there = _there((inner for inner, _ in settings), fields)
        found.problems.append(Problem(f"{path}: [{key[:SHOWN_CHARACTERS]}]: {_NO_TABLES}{there}"))
        for inner, setting in settings:  # as if it stood where it belongs: what else is wrong is told too
            _take(found, path, (key, inner), setting, fields)
    return found


def _tables(value: object) -> list[dict[str, Any]]:
    """The tables that a value is; empty if it is none."""
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) and value and all(isinstance(item, dict) for item in value) else []


def _take(found: Configuration, path: Path, keys: tuple[str, ...], value: object, fields: Fields) -> None:
    name = _name(keys[-1])
    if fault := _fault(name, value, fields, found.values):
        about = name if name in fields else _nearest(name, fields)
        found.problems.append(Problem(f"{path}: {'.'.join(keys)[:SHOWN_CHARACTERS]!r}: {fault}", about))
    else:
        found.values[name] = _beside(path, value) if _is_path(fields[name]) else value


def _name(key: str) -> str:
    return key.replace("-", "_")


def _there(keys: Iterable[str], fields: Fields) -> str:
    known = [key for key in keys if _name(key) in fields]
    return f"; write {', '.join(known)} there" if known else ""


def _nearest(name: str, fields: Fields) -> str:
    near = difflib.get_close_matches(name[:SHOWN_CHARACTERS].lower().removeprefix("mtlora_"), fields, n=1)
    return near[0] if near else ""


def _document(path: Path) -> dict[str, Any]:
    try:
        text = _content(path)
    except OSError as error:
        raise ConfigFileError(f"the configuration file {path} cannot be read: {error.strerror or error}") from error
    if len(text) > MAX_BYTES:
        raise ConfigFileError(f"the configuration file {path} has more than {MAX_BYTES} bytes")
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigFileError(f"the configuration file {path} is not TOML: {error}") from None


def _content(path: Path) -> bytes:
    """Bytes of a file or a pipe, one more than allowed at most; never waits for longer than a pipe may take."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with io.FileIO(descriptor, "r") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISFIFO(mode):
            return _from_pipe(file)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is neither a file nor a pipe")
        return io.BufferedReader(file).read(MAX_BYTES + 1)


def _from_pipe(pipe: io.FileIO) -> bytes:
    content = b""
    deadline = time.monotonic() + PIPE_S
    waiting = select.poll()
    waiting.register(pipe.fileno(), select.POLLIN)
    over = False
    while len(content) <= MAX_BYTES:
        piece = pipe.read(MAX_BYTES + 1)
        if piece:
            content += piece
            continue
        if piece == b"" and (content or over):  # the last writer is gone; before the first one it is empty too
            break
        left = deadline - time.monotonic()
        if left <= 0:
            said = "no end came" if content else "nothing came"
            raise OSError(errno.ETIMEDOUT, f"{said} through this pipe for {PIPE_S:g} seconds")
        over = any(event & select.POLLHUP and not event & select.POLLIN for _, event in waiting.poll(left * 1000))
    return content


def _fault(name: str, value: object, fields: Fields, seen: Mapping[str, Any]) -> str:
    """What is wrong with a key, whatever its value means; empty: nothing."""
    if name == "config":
        return "a configuration file cannot name another"
    if name not in fields:
        near = _nearest(name, fields)
        return f"there is no such setting{f'; did you mean {near}?' if near else ', see mtlora serve --help'}"
    if name in seen:
        return "is there twice"
    if not isinstance(value, str | int | float):
        kind = _KINDS.get(type(value), "a date or a time")
        hint = f"; {_NO_TABLES}" if isinstance(value, dict) else ""
        return f"must be a text, a number, true or false, got {kind}{hint}"
    if isinstance(value, bool) and fields[name].annotation is not bool:
        return f"cannot be {str(value).lower()}"
    return ""


def _is_path(info: FieldInfo) -> bool:
    return info.annotation is Path or Path in get_args(info.annotation)


def _beside(config: Path, value: object) -> object:
    """A path in a file is relative to the file: what it means must not depend on where the server is started."""
    return config.absolute().parent / Path(value).expanduser() if isinstance(value, str) and value else value
