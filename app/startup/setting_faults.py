"""Faults of the settings as values: all at once, in plain words, with the place where each was set."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from app.core.errors import ConfigFileError, SettingError
from app.startup.config_file import examine_config
from app.startup.help import choices_of, plain_kind
from app.startup.settings import FILE_VALUES, PREFIX, ContradictionsError, Settings

SHOWN_CHARACTERS = 60
_FIELDS = Settings.model_fields
_FORMS = {"device": "auto, cpu, cuda or cuda:N"}
_ROUNDS = 3  # values, what does not go together, and then nothing is left


class Examined(NamedTuple):
    """Settings to look further at, and what is wrong with them already.

    settings: with defaults for what is wrong, so to be served only if there are no faults; None: nothing more to tell
    doubtful: settings that are not known to be as they were meant
    origins: where each that was set was set, as whoever is to change it knows it
    """

    settings: Settings | None
    faults: Sequence[SettingError]
    doubtful: frozenset[str]
    origins: Mapping[str, str]


def examine(given: Mapping[str, Any], environment: Mapping[str, str]) -> Examined:
    """The settings of flags, environment and configuration file. That file and the key file are opened, no other.

    given: flags, by the names of their settings
    """
    variables = {name.upper(): value for name, value in environment.items()}
    origins = {name: variable for name in _FIELDS if (variable := f"{PREFIX}{name.upper()}") in variables}
    origins |= {name: flag_of(name) for name in given}
    path = given.get("config") or variables.get(f"{PREFIX}CONFIG")
    try:
        file = examine_config(Path(path), _FIELDS) if path else None
    except (ConfigFileError, ValueError) as error:  # the latter: no path at all, which is told of as a value
        unreadable = [SettingError(error.detail)] if isinstance(error, ConfigFileError) else []
        found = _validated({**given, FILE_VALUES: {}}, frozenset(_FIELDS), origins)
        return found._replace(settings=None, faults=[*unreadable, *found.faults])
    if file is None:
        return _validated({**given, FILE_VALUES: {}}, frozenset(), origins)
    origins = {name: f"{path}: {name}" for name in file.values} | origins
    doubtful = frozenset(problem.about for problem in file.problems)
    found = _validated({**given, FILE_VALUES: file.values}, doubtful, origins)
    return found._replace(faults=[*(SettingError(problem.detail) for problem in file.problems), *found.faults])


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def _validated(given: Mapping[str, Any], doubtful: frozenset[str], origins: Mapping[str, str]) -> Examined:
    """doubtful: settings that may be meant otherwise than given; what they cannot go together with is not told."""
    faults: list[SettingError] = []
    replaced: dict[str, Any] = {}
    for _ in range(_ROUNDS):
        try:
            return Examined(Settings(**{**given, **replaced}), faults, doubtful, origins)
        except ValidationError as error:
            wrong: set[str] = set()
            for names, detail in _told(error):
                wrong |= set(names)
                if len(names) == 1 or doubtful.isdisjoint(names):
                    name = next((name for name in names if name in origins), names[0])
                    faults.append(SettingError(detail, setting=name))
            doubtful |= wrong
            replaced |= {name: _FIELDS[name].get_default(call_default_factory=True) for name in wrong}
            if "insecure" in wrong:  # to be looked at, not to be served
                replaced["insecure"] = True
    return Examined(None, faults, doubtful, origins)


def _told(error: ValidationError) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each fault: the settings that it is about, and what is wrong."""
    for fault in error.errors(include_url=False):
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, ContradictionsError):
            yield from ((found.settings, found.detail) for found in cause.found)
        else:
            name = str(fault["loc"][0])
            yield (name,), str(cause) if cause is not None else _words(name, _FIELDS[name], fault)


def _words(name: str, info: FieldInfo, fault: ErrorDetails) -> str:
    got = f", got {_shown(fault['input'])}" if info.repr else ""
    return f"must be {expected(name, info)}{got}"


def expected(name: str, info: FieldInfo) -> str:
    """What a setting may be, in words."""
    kind = plain_kind(info)
    choices = [str(choice.value) for choice in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []
    if choices := choices or choices_of(info):
        return f"one of {', '.join(choices)}"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path", str: "a text"}
    return _FORMS.get(name) or f"{kinds[kind]}{_range(info)}"


def _range(info: FieldInfo) -> str:
    bounds = {
        bound: value
        for rule in info.metadata
        for bound in ("ge", "gt", "le")
        if (value := getattr(rule, bound, None)) is not None
    }
    if not bounds:
        return ""
    if "gt" in bounds:
        return f" above {bounds['gt']} and at most {bounds['le']}"
    return f" from {bounds['ge']} to {bounds['le']}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(str(value)) if isinstance(value, str | Path) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
