"""One JSON object per line for machines; for people a line that nothing in it can disturb."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.telemetry.logs import JsonFormatter, PlainFormatter, set_up_logs
from mtlora.vocabulary.options import Precision


def test_a_line_is_json_with_its_extras() -> None:
    record = logging.makeLogRecord({"msg": "loaded %s", "args": ("cats",), "adapter": "cats", "odd": object()})
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["adapter"]) == ("loaded cats", "cats")
    assert line.keys() >= {"time", "level", "logger"}


def test_exceptions_stay_on_their_line() -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "ValueError: one\ntwo" in json.loads(text)["exception"]


def plain(**values: object) -> str:
    return PlainFormatter().format(logging.makeLogRecord({"levelname": "INFO", **values}))


def test_a_plain_line_has_time_level_message_and_pairs() -> None:
    line = plain(msg="loaded %s", args=("cats",), adapter="cats", wait_s=0.5, reason="not here", empty="", odd=None)
    said = 'info    loaded cats adapter=cats wait_s=0.5 reason="not here"'
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {re.escape(said)}", line)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["a", "b"], "x=a,b"),
        (["a b (c?)", "d"], 'x="a b (c?),d"'),
        ({"b", "a"}, "x=a,b"),
        ((1, None, "", 2), "x=1,2"),
        ([{"a": 1, "b": None}, "c"], "x=a=1,c"),
        ({"a": 1, "b": {"c": [2, 3], "d": ""}}, "x.a=1 x.b.c=2,3"),
        ([], ""),
        ({}, ""),
        ("", ""),
        (None, ""),
        (0, "x=0"),
        (False, "x=false"),
        (True, "x=true"),
        (Precision.INT8, "x=int8"),
        (Path("/a b"), 'x="/a b"'),
        ('say "no"', r'x="say \"no\""'),
        ({"a\x1b[2K": "b\nc"}, r'x.a\x1b[2K="b\nc"'),
    ],
)
def test_values_are_written_for_people(value: object, said: str) -> None:
    assert plain(msg="m", x=value).partition(" m")[2].strip() == said


def test_machines_get_them_as_they_are() -> None:
    record = logging.makeLogRecord({"msg": "m", "empty": "", "none": None, "many": ["a"], "deep": {"a": {"b": True}}})
    line = json.loads(JsonFormatter().format(record))
    assert (line["empty"], line["none"], line["many"], line["deep"]) == ("", None, ["a"], {"a": {"b": True}})


def test_what_people_are_told_stands_for_message_and_pairs() -> None:
    record = {"msg": "ready", "adapters": 3, "plain": "ready: open http://127.0.0.1/"}
    assert plain(**record).endswith("info    ready: open http://127.0.0.1/")
    line = json.loads(JsonFormatter().format(logging.makeLogRecord(record)))
    assert (line["message"], line["adapters"]) == ("ready", 3)
    assert "plain" not in line


@pytest.mark.parametrize("char", ["\n", "\r", "\x1b", "\0", "\x7f", "\x9b", "\u2028", "\u202e", "\ud800", "\t"])
def test_control_characters_are_escaped(char: str) -> None:
    for line in (plain(msg=f"a{char}b"), plain(msg="a", path=f"/x{char}y"), plain(msg="a", plain=f"a{char}b")):
        assert line.isprintable()
        assert len(line.encode()) > 30


def test_a_traceback_is_indented_and_cannot_forge_a_line() -> None:
    try:
        raise ValueError("one\n2030-01-01 00:00:00 info    all is well\x1b[2K")
    except ValueError:
        rows = plain(msg="failed", exc_info=sys.exc_info()).split("\n")
    assert all(row.startswith("    ") for row in rows[1:])
    assert all(row.isprintable() for row in rows)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def _logging_stays_ours() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, uvicorn = root.handlers[:], root.level, logging.getLogger("uvicorn.error").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.error").setLevel(uvicorn)


@pytest.mark.usefixtures("_logging_stays_ours")
@pytest.mark.parametrize(
    ("form", "terminal", "environment", "found"),
    [
        ("auto", True, {"TERM": "xterm"}, "color"),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": "1"}, "plain"),
        ("auto", True, {"TERM": "dumb"}, "plain"),
        ("auto", False, {"TERM": "xterm"}, "json"),
        ("plain", False, {"TERM": "xterm"}, "plain"),
        ("json", True, {"TERM": "xterm"}, "json"),
    ],
)
def test_where_lines_are_plain(
    monkeypatch: pytest.MonkeyPatch, form: str, terminal: bool, environment: dict[str, str], found: str
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logs("info", form)
    logging.getLogger("uvicorn.error").info("Application startup complete.")
    logging.getLogger("app").warning("hello")
    (line,) = stream.getvalue().splitlines()
    kind = "json" if line.startswith("{") else "color" if "\x1b[33m" in line else "plain"
    assert kind == found
