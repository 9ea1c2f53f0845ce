"""Parameters of a request, wherever they are: in the query, a header, form fields or keys of a JSON body.

Nothing that a client says is dropped: what nobody knows is refused, and so is what is said twice in two ways.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from app.core.errors import BadBodyError, ParameterConflictError
from app.core.nearest import unknown
from app.core.numbers import plain_digits

MAX_FIELD_BYTES = 1024  # of a parameter in a form
ASCII_SPACE = " \t\r\n"  # around a form field, which editors and shells leave there
MAX_TOLD = 5  # unknown names in one answer
MAX_SHOWN = 80  # characters of a value
_SAID = "said"  # marks a fault that is in our words
_WITHOUT_VALUE = frozenset({"parameter", "json_invalid", "unknown_key"})
"""Faults whose words say it all."""
QUERY, HEADER, FORM, JSON = "query", "header", "form", "body"
PLACES = {QUERY: "in the query", HEADER: "in a header", FORM: "as a form field", JSON: "in the JSON body"}
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Found:
    """A parameter as it came: all places speak text."""

    place: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{given(self.text)} {PLACES[self.place]}"


class Strict(BaseModel):
    """A JSON object that may have no other keys than these."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_only(cls, given: Any) -> Any:
        names = [name for name in given if name not in cls.model_fields] if isinstance(given, dict) else []
        if names:
            words = "; ".join(unknown("key", str(name), tuple(cls.model_fields)) for name in names[:MAX_TOLD])
            raise PydanticCustomError("unknown_key", "{words}", {"words": words})
        return given


def check_known(place: str, names: Iterable[str], known: Sequence[str], what: str = "parameter") -> None:
    """`RequestValidationError` (422) for names that nobody knows: it lists the known ones and says the nearest."""
    strange = [name for name in dict.fromkeys(names) if name not in known]
    if strange:
        raise RequestValidationError([fault(place, name, unknown(what, name, known)) for name in strange[:MAX_TOLD]])


def fault(place: str, name: str, words: str) -> dict[str, Any]:
    """One fault of a `RequestValidationError`."""
    return {"type": "parameter", "loc": (place, name[:80]), "msg": words}


def told(faults: Iterable[Mapping[str, Any]], *place: str) -> list[dict[str, Any]]:
    """Faults that pydantic found, each in words that say what was given.

    place: where the document stands that they are about
    """
    return [
        {
            "type": one["type"],
            "loc": (*place, *one["loc"]),
            "msg": one["msg"] if _SAID in one else _words(one),
            _SAID: 1,
        }
        for one in faults
    ]


def _words(one: Mapping[str, Any]) -> str:
    kind, words = one["type"], str(one["msg"])
    if kind == "missing":
        return "is missing"
    if kind in _WITHOUT_VALUE or "input" not in one:
        return words
    if kind == "string_too_short" and one["input"] == "":
        return "must not be empty, got '': leave it away, or give it a value"
    return f"{words}, got {given(one['input'])}"


def given(value: object) -> str:
    """A value of a client's as it may be shown: never long, whatever it is."""
    if isinstance(value, str):
        more = f"… ({len(value)} characters)" if len(value) > MAX_SHOWN else ""
        return f"{value[:MAX_SHOWN]!r}{more}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return str(value)[:MAX_SHOWN] if not isinstance(value, int) or value.bit_length() < 256 else "a huge number"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__


def in_query(request: Request) -> list[Found]:
    """Every parameter of the query, repeated ones too."""
    return [Found(QUERY, name, text) for name, text in request.query_params.multi_items()]


def in_headers(request: Request, header: str, name: str) -> list[Found]:
    """A parameter as a header, which may have come more than once."""
    return [Found(HEADER, name, text) for text in request.headers.getlist(header)]


def in_json(document: dict[str, Any], lists: Collection[str] = ()) -> list[Found]:
    """Members of a JSON object as parameters; null is as not given.

    lists: names that may have a list of texts
    """
    found = []
    for name, value in document.items():
        if isinstance(value, list) and name in lists and all(isinstance(one, str) for one in value):
            found.append(Found(JSON, name, ",".join(value)))
        elif isinstance(value, bool):
            found.append(Found(JSON, name, str(value).lower()))
        elif isinstance(value, float) and math.isfinite(value):  # 5000.0 and 5e3 are ways to write 5000 in JSON
            found.append(Found(JSON, name, plain_digits(value)))
        elif isinstance(value, str | int | float):
            found.append(Found(JSON, name, str(value)))
        elif value is not None:
            kinds = "a list of texts, or text" if name in lists else "text, a number, or true or false"
            raise RequestValidationError([fault(JSON, name, f"{name} is {kinds}, got {given(value)}")])
    return found


def field_text(name: str, content: bytes) -> str:
    """A form field's text; `BadBodyError` if it is none."""
    try:
        return content.decode().strip(ASCII_SPACE)
    except UnicodeDecodeError as error:
        raise BadBodyError(f"the form field {name[:80]!r} is not UTF-8 text: {error.reason}") from error


def merged(kind: type[M], found: Iterable[Found], lists: Collection[str] = ()) -> M:
    """Each parameter's one value. `ParameterConflictError` (400) if it has two, 422 if one makes no sense.

    lists: names whose repetition in one place adds to them
    """
    chosen: dict[str, tuple[Found, object]] = {}
    for one in _joined(found, lists):
        value = _validated(kind, one)
        first, known = chosen.setdefault(one.name, (one, value))
        if known != value:
            raise ParameterConflictError(_two_values(first, one))
    return kind.model_validate({name: value for name, (_, value) in chosen.items()})


def check_query(found: Sequence[Found], known: Sequence[str], lists: Collection[str] = ()) -> None:
    """Refuse a query with names that nobody knows (422), or with two values of one that is no list (400)."""
    check_known(QUERY, [one.name for one in found], known, "query parameter")
    seen: dict[str, Found] = {}
    for one in found:
        first = seen.setdefault(one.name, one)
        if first.text != one.text and one.name not in lists:
            raise ParameterConflictError(_two_values(first, one))


def _two_values(first: Found, other: Found) -> str:
    return f"{other.name} is {first} and {other}; give it once, or the same value"


def _joined(found: Iterable[Found], lists: Collection[str]) -> list[Found]:
    joined: dict[tuple[str, str], list[str]] = defaultdict(list)
    singles = []
    for one in found:
        if one.name in lists:
            joined[one.place, one.name].append(one.text)
        else:
            singles.append(one)
    return singles + [Found(place, name, ",".join(texts)) for (place, name), texts in joined.items()]


def _validated(kind: type[M], one: Found) -> object:
    try:
        return getattr(kind.model_validate({one.name: one.text}), one.name)
    except ValidationError as error:
        words = "; ".join(item["msg"] for item in told(error.errors(include_url=False)))
        raise RequestValidationError([fault(one.place, one.name, words)]) from error
