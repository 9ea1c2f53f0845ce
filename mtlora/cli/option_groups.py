"""Commands whose options are dataclasses, for Typer, which reads one parameter per option."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, TypeVar, get_type_hints

from mtlora.vocabulary.errors import OptionError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Needs:
    """In an option's annotation: it says something only beside one of these options, by the names of their fields.

    one_of: options of which one must be given, or
    value:  what the only one of them must be
    """

    one_of: tuple[str, ...]
    value: object = None

    def fault(self, given: Mapping[str, Any]) -> str:
        """What is missing; empty: nothing."""
        if self.value is not None:
            (name,) = self.one_of
            return "" if given[name] == self.value else f"says nothing without {flag(name)} {self.value}"
        if any(given[name] for name in self.one_of):
            return ""
        return f"says nothing without {' or '.join(map(flag, self.one_of))}"


@dataclass(frozen=True, slots=True)
class Unless:
    """In an option's annotation: where this other option is given, it says nothing."""

    other: str

    def fault(self, given: Mapping[str, Any]) -> str:
        """Which is there; empty: it is not."""
        return f"says nothing beside {flag(self.other)}" if given[self.other] else ""


def flag(name: str) -> str:
    """A field's name as an option: `--val-every`."""
    return f"--{name.replace('_', '-')}"


def with_options(command: Callable[[T], None]) -> Callable[..., None]:
    """The command of one dataclass as a function of the dataclass's fields, each by its name.

    A field that is a dataclass is a group: its fields are options in its place, its name is none.
    """
    hints = get_type_hints(command)
    hints.pop("return", None)
    (kind,) = hints.values()

    @wraps(command)
    def flat(**given: Any) -> None:
        _check(kind, given)
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


def _check(kind: type, given: Mapping[str, Any]) -> None:
    """`OptionError` where an option would be ignored because of others."""
    types = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if is_dataclass(types[field.name]):
            _check(types[field.name], given)
            continue
        rules = [one for one in getattr(types[field.name], "__metadata__", ()) if isinstance(one, Needs | Unless)]
        faults = [fault for rule in rules if (fault := rule.fault(given))]
        if faults and given[field.name] != field.default:
            raise OptionError(f"{flag(field.name)} {faults[0]}: change that, or leave it away")


def _build(kind: type[T], given: Mapping[str, Any]) -> T:
    types = get_type_hints(kind)
    return kind(
        **{
            field.name: _build(types[field.name], given) if is_dataclass(types[field.name]) else given[field.name]
            for field in fields(kind)  # type: ignore[arg-type]
        }
    )
