"""Logs on standard error, with the `extra` of each call: JSON for machines, plain lines on a terminal.

An extra called `plain` is what people are told instead of message and extras; JSON leaves it out.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", "plain"}
_COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31"}
_BARE = frozenset("-._:/@%+,=~")
_OWN = ("uvicorn", "uvicorn.error", "uvicorn.access")


class JsonFormatter(logging.Formatter):
    """One line per record; what cannot be JSON becomes its string."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON: time, level, logger, message, extras, and the exception if there is one."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_extras(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """One readable line per record: local time, level, message, key=value; below it the traceback, indented.

    Nothing that a client sends can move the cursor, forge a line or colour one: what cannot be printed is escaped.
    """

    def __init__(self, *, color: bool = False) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """The record for people."""
        time = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")
        level = record.levelname.lower()
        said = getattr(record, "plain", None)
        words = [said or record.getMessage(), *(() if said else _all_pairs(record))]
        line = f"{time} {self._colored(f'{level:<7}', level)} {printable(' '.join(words))}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n    {printable(row)}" for row in trace.splitlines())
        return line

    def _colored(self, text: str, level: str) -> str:
        return f"\x1b[{_COLORS.get(level, '0')}m{text}\x1b[0m" if self._color else text


def printable(text: str) -> str:
    """Text in which every control character, line end and invisible character is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def takes_color(stream: TextIO) -> bool:
    """Whether colours belong there: a terminal that knows them, and nobody asked for none (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def set_up_logs(level: str, form: str = "auto") -> None:
    """Send every logger's records to standard error; called once, by the process's entry point.

    form: json, plain, or auto: plain on a terminal
    """
    stream = sys.stderr
    plain = form == "plain" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter(color=takes_color(stream)) if plain else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _OWN:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # What cannot be parsed has a line of its own, which says who sent it and what is wrong with it.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != "Invalid HTTP request received.")
    if level != "debug":  # it speaks of starting and stopping in words of its own, at times that mean nothing here
        logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("multipart").setLevel("WARNING")
    logging.getLogger("python_multipart").setLevel("WARNING")


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _all_pairs(record: logging.LogRecord) -> Iterator[str]:
    for key, value in _extras(record).items():
        yield from _pairs(key, value)


def _pairs(key: str, value: Any) -> Iterator[str]:
    """key=value for people: nothing for what is empty, a list with commas, a pair for each entry of a mapping."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _pairs(f"{key}.{name}", inner)
        return
    text = _text(value)
    if text:
        bare = all(char.isalnum() or char in _BARE for char in text)
        yield f"{key}={text if bare else json.dumps(text, ensure_ascii=False)}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Mapping):
        return " ".join(pair for name, inner in value.items() for pair in _pairs(str(name), inner))
    if isinstance(value, Set):
        value = sorted(value, key=str)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ",".join(text for item in value if (text := _text(item)))
    return str(value)
