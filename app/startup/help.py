"""The help of `mtlora serve`: settings in groups, a few lines each, no name cut."""

import re
import shutil
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from app.startup.settings import GROUPS, PREFIX, Settings

MAX_WIDTH = 100
MIN_WIDTH = 50
FLAG_ONLY_ENVIRONMENT = "api_keys"
_UNITS = {"_bytes": "BYTES", "_s": "SECONDS", "_ms": "MS", "_px": "PX", "_file": "FILE"}
_KINDS = {int: "N", float: "NUMBER", Path: "PATH", str: "TEXT"}
_WORDS = re.compile(r"\^\(([a-z|]+)\)\$")
INTRODUCTION = """\
Serve the backbone and its adapter sets over HTTP. Every option is also an environment variable, shown at its right,
and a line of the file that --config names. Flags win over the environment, the environment over the file."""


class ServeCommand(TyperCommand):
    """The command whose options are the settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The whole help text, as wide as the terminal allows."""
        width = min(MAX_WIDTH, max(MIN_WIDTH, shutil.get_terminal_size().columns))
        formatter.write(f"Usage: {ctx.command_path} [OPTIONS]\n\n{help_text(width)}\n")


def help_text(width: int) -> str:
    """What `mtlora serve` does, and every setting."""
    return "\n".join(("\n".join(textwrap.wrap(INTRODUCTION, width)), *_settings(width), "", "  --help"))


def plain_kind(info: FieldInfo) -> Any:
    """A setting's type, where it may also be absent the type that it has otherwise."""
    kind: Any = info.annotation
    return next(t for t in get_args(kind) if t is not type(None)) if isinstance(kind, UnionType) else kind


def metavar(name: str, info: FieldInfo) -> str:
    """What stands for a value: the choices, or its unit, or its kind."""
    kind = plain_kind(info)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    if choices := choices_of(info):
        return "|".join(choices)
    for unit, shown in _UNITS.items():
        if name.endswith(unit):
            return shown
    return _KINDS[kind]


def choices_of(info: FieldInfo) -> list[str]:
    """The words that a text may be, where its pattern lists them; else empty."""
    patterns = (str(getattr(rule, "pattern", None) or "") for rule in info.metadata)
    found = next((match for pattern in patterns if (match := _WORDS.fullmatch(pattern))), None)
    return found[1].split("|") if found else []


def _settings(width: int) -> Iterator[str]:
    fields = Settings.model_fields
    column = 3 + max(len(_flag(name, info)) for name, info in fields.items())
    for name, info in fields.items():
        if name in GROUPS:
            yield f"\n{GROUPS[name]}:"
        flag, variable = f"  {_flag(name, info)}", f"{PREFIX}{name.upper()}"
        yield f"{flag:<{column}} {variable}" if column + len(variable) < width else f"{flag}\n    {variable}"
        yield textwrap.fill(
            f"{info.description}{_default(info)}",
            width,
            initial_indent="      ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _flag(name: str, info: FieldInfo) -> str:
    if name == FLAG_ONLY_ENVIRONMENT:
        return "(no flag: others see those)"
    flag = name.replace("_", "-")
    return f"--{flag} / --no-{flag}" if info.annotation is bool else f"--{flag} {metavar(name, info)}"


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    if value is None or value == "":  # its description then says what follows
        return ""
    if isinstance(value, bool):
        return f" (default: {'on' if value else 'off'})"
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = Path("~") / value.relative_to(Path.home())
    return f" (default: {value:g})" if isinstance(value, float) else f" (default: {value})"
