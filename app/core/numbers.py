"""Numbers as clients write them: plain decimal digits, so that every reader takes them for the same number."""

import re
from typing import Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_WHOLE = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_SHARE = re.compile(r"[01](?:\.[0-9]{0,20})?|\.[0-9]{1,20}")
_QUALITY = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")


def _plain(value: Any) -> Any:
    """Text as it is, if it is plain digits; Python and pydantic would take `5_000`, `+5` and ` 5` too."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise PydanticCustomError("plain_number", "Input should be a whole number in plain digits, such as 5000")
    return value


def share_of(text: str) -> float | None:
    """A number in 0..1 in plain digits; None for anything else."""
    return value if _SHARE.fullmatch(text) and (value := float(text)) <= 1 else None


PLAIN = BeforeValidator(_plain)
"""For the annotation of an `int` that a client may write as text."""


def _plain_decimal(value: Any) -> Any:
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise PydanticCustomError("plain_number", "Input should be a number in plain digits, such as 0.5")
    return value


PLAIN_DECIMAL = BeforeValidator(_plain_decimal)
"""For the annotation of a `float` that a client may write as text."""


def quality_of(text: str) -> float:
    """The weight of a media range, in 0..1; 0 for what is no number in plain digits."""
    return min(float(text), 1.0) if _QUALITY.fullmatch(text) else 0.0
