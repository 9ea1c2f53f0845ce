"""Numbers and switches as clients write them: plain decimal digits, `true` and `false`, so that all read the same.

One rule for every place. As text (query, header, form, text in JSON): plain digits, without an exponent. As a number of
JSON: however JSON writes it, so 5e3 and 5000.0 are 5000.
"""

import re
from decimal import Decimal
from typing import Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_WHOLE = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_SHARE = re.compile(r"[01](?:\.[0-9]{0,20})?|\.[0-9]{1,20}")
_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, 1: True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
    0: False,
}
_QUALITY = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")


def _plain(value: Any) -> Any:
    """Text as it is, if it is plain digits; Python and pydantic would take `5_000`, `+5` and ` 5` too."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _WHOLE.fullmatch(value)):
        return value
    raise PydanticCustomError("plain_number", "Input should be a whole number in plain digits, such as 5000")


def share_of(text: str) -> float | None:
    """A number in 0..1 in plain digits; None for anything else."""
    return value if _SHARE.fullmatch(text) and (value := float(text)) <= 1 else None


PLAIN = BeforeValidator(_plain)
"""For the annotation of an `int` that a client may write as text."""


def _plain_decimal(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        return value
    raise PydanticCustomError("plain_number", "Input should be a number in plain digits, such as 0.5")


PLAIN_DECIMAL = BeforeValidator(_plain_decimal)
"""For the annotation of a `float` that a client may write as text."""


def _switch(value: Any) -> bool:
    """What environments, shells and languages write for yes and no; JSON's 1 and 0 are numbers, and say the same."""
    meant = _SWITCHES.get(value.lower() if isinstance(value, str) else value) if _is_plain(value) else None
    if meant is None:
        raise PydanticCustomError("switch", "Input should be true or false")
    return meant


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int)


SWITCH = BeforeValidator(_switch)
"""For the annotation of a `bool` that a client may write as text."""


def plain_digits(number: float) -> str:
    """A number of JSON as the text that would say the same elsewhere."""
    return str(int(number)) if number.is_integer() else f"{Decimal(repr(number)):f}"


def quality_of(text: str) -> float:
    """The weight of a media range, in 0..1; 0 for what is no number in plain digits."""
    return min(float(text), 1.0) if _QUALITY.fullmatch(text) else 0.0
