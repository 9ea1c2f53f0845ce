"""One JSON object per line."""

import json
import logging
import sys

from app.telemetry.logs import JsonFormatter


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
