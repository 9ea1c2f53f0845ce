"""Printing of the commands: text from a server or a file cannot control the terminal from here."""

import json
import re
import sys
from typing import Any

import typer

from mtlora.vocabulary.shown import shown

LINE_CHARACTERS = 4000
_UNSEEN = re.compile(r"[^\n\x20-\x7e]")


def say(*lines: object, err: bool = False) -> None:
    """Print lines, each as one line whatever is in it."""
    for line in lines:
        _print(shown(line, LINE_CHARACTERS), err)


def say_text(text: str, *, err: bool = False) -> None:
    """Print text that has lines: those behind the first are set in, so that none can pass for another message."""
    first, *others = text.split("\n")
    say(first, *(line if line.startswith("  ") else f"  {line}" for line in others), err=err)


def say_json(document: Any) -> None:
    """Print a document as JSON, characters that a terminal might obey written as escapes."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    _print(_UNSEEN.sub(lambda found: _escaped(found[0]), text), err=False)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


def _print(text: str, err: bool) -> None:
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)
