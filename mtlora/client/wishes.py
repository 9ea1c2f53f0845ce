"""What may be asked of every prediction, and how it is written for the server: plain decimal digits."""

from decimal import Decimal
from typing import TypedDict

from mtlora.vocabulary.errors import RemoteError


class Wishes(TypedDict, total=False):
    """How a photo's maps are made, by whichever set; what is left out is as the server has it."""

    deadline_ms: int | None
    """The server gives up after so long; default: the server's own limit."""
    compute: str | float
    """Share of the encoder that is computed, as 0.6, a range "0.5-1" that the server chooses from, or "auto"."""
    edges: str
    """Of class maps: "scores" decides them at their size (default), "nearest" enlarges the model's map."""
    size: str | int
    """Of all maps: "photo" (default), "model", or the pixels of the longer side."""
    tiles: str
    """Overlapping tiles of a large photo, one pass each: "2x3" is rows x columns, "auto" leaves it to the server."""


class Options(Wishes, total=False):
    """Keywords of every method that predicts."""

    adapter: str
    """NAME or NAME@REVISION; default: the server's default set."""


def said(options: Options | Wishes) -> dict[str, str]:
    """The parameters that are said, by name; `RemoteError` for what is none."""
    unknown = [name for name in options if name not in Options.__annotations__]
    if unknown:
        known = ", ".join(Options.__annotations__)
        raise RemoteError(f"there is no option {', '.join(map(repr, unknown))} of a prediction; there are {known}")
    given = {name: value for name, value in options.items() if value not in (None, "")}
    return {name: value if isinstance(value, str) else _number(name, value) for name, value in given.items()}


def plain(number: float) -> str:
    """A number in plain decimal digits, without an exponent."""
    return f"{Decimal(repr(number)):f}"


def _number(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RemoteError(f"{name} is a number or text, got {value!r:.80}")
    return plain(value)
