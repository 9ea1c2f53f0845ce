"""Commands whose options are dataclasses, for Typer, which reads one parameter per option."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def with_options(command: Callable[[T], None]) -> Callable[..., None]:
    """The command of one dataclass as a function of the dataclass's fields, each by its name.

    A field that is a dataclass is a group: its fields are options in its place, its name is none.
    """
    hints = get_type_hints(command)
    hints.pop("return", None)
    (kind,) = hints.values()

    @wraps(command)
    def flat(**given: Any) -> None:
        command(_build(kind, given))

    flat.__signature__ = Signature(list(_parameters(kind)))  # type: ignore[attr-defined]
    return flat


def _parameters(kind: type) -> Iterator[Parameter]:
    types = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if is_dataclass(types[field.name]):
            yield from _parameters(types[field.name])
        else:
            default = Parameter.empty if field.default is MISSING else field.default
            yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name])


def _build(kind: type[T], given: Mapping[str, Any]) -> T:
    types = get_type_hints(kind)
    return kind(
        **{
            field.name: _build(types[field.name], given) if is_dataclass(types[field.name]) else given[field.name]
            for field in fields(kind)  # type: ignore[arg-type]
        }
    )
