"""What commands print, as bytes on a terminal."""

import json
import os
import subprocess
import sys

import pytest

from mtlora.cli.say import say, say_json, say_text

NASTY = "\x1b[31m\x9b2J\u202e\u2028\r[red]\ud800"


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a {NASTY}", "b\nmtlora: all is well")
    assert capsys.readouterr().out == (
        r"a \x1b[31m\x9b2J\u202e\u2028\r[red]\ud800" + "\n" + r"b\nmtlora: all is well" + "\n"
    )


def test_lines_of_an_error_are_set_in(capsys: pytest.CaptureFixture[str]) -> None:
    say_text("mtlora: no:\n  - one\nmtlora: all is well\x07", err=True)
    assert capsys.readouterr().err == "mtlora: no:\n  - one\n  mtlora: all is well\\x07\n"


def test_json_says_the_same_in_characters_that_no_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"ü写🐈\x7f": [NASTY, "\U000e0001", 1.5, None]}
    say_json(document)
    printed = capsys.readouterr().out
    assert json.loads(printed) == document
    assert "ü写🐈" in printed
    assert all(line.isprintable() for line in printed.splitlines())


def test_a_terminal_without_these_letters() -> None:
    script = "from mtlora.cli.say import say; say('写真 ok')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)
    assert finished.stdout == b"\\u5199\\u771f ok\n"
