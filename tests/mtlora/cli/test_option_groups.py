"""Dataclasses as a command's options: names, order, defaults and values arrive as if each were a parameter."""

import inspect
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from mtlora.cli.main import cli
from mtlora.cli.option_groups import Needs, Unless, with_options
from mtlora.vocabulary.errors import OptionError

MOST_PARAMETERS = 8


@dataclass(frozen=True, kw_only=True)
class Size:
    """A group."""

    width: Annotated[int, typer.Option(help="Wide.")] = 3
    tall: bool = False


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command takes."""

    name: Annotated[str, typer.Option(help="Said.")]
    size: Size = field(default_factory=Size)
    last: float = 0.5


def run(*arguments: str) -> tuple[int, list[Options]]:
    seen: list[Options] = []
    app = typer.Typer()

    @app.command()
    @with_options
    def command(options: Options) -> None:
        """What it is for."""
        seen.append(options)

    return CliRunner().invoke(app, arguments).exit_code, seen


def test_what_is_not_given_has_the_default() -> None:
    assert run("--name", "a") == (0, [Options(name="a")])


def test_what_is_given_reaches_its_group() -> None:
    expected = Options(name="a", size=Size(width=5, tall=True), last=0.25)
    assert run("--width", "5", "--tall", "--name", "a", "--last", "0.25") == (0, [expected])


def test_a_field_without_default_is_required() -> None:
    status, seen = run("--width", "5")
    assert (status, seen) == (2, [])


def test_options_stand_in_the_order_of_their_fields() -> None:
    @with_options
    def command(options: Options) -> None:
        """What it is for."""

    assert list(inspect.signature(command).parameters) == ["name", "width", "tall", "last"]
    assert command.__doc__ == "What it is for."


@pytest.mark.parametrize("command", ["train", "pretrain", "compare"])
def test_commands_of_training_take_one_value(command: str) -> None:
    """Not a parameter per option, which are dozens."""
    callbacks: list[Any] = [each.callback for each in cli.registered_commands]
    (callback,) = (each for each in callbacks if each.__name__ == command)
    assert len(inspect.signature(callback).parameters) > MOST_PARAMETERS
    assert list(inspect.signature(callback.__wrapped__).parameters) == ["options"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options of which some say nothing without others."""

    kind: str = "none"
    seed: Annotated[int, typer.Option(help="Of the noise."), Needs(("kind",), "sampled")] = 0
    teacher: str = ""
    labels: str = ""
    warmth: Annotated[float, typer.Option(help="Of the teacher."), Needs(("teacher", "labels"))] = 2.0
    steps: int = 0
    epochs: Annotated[float, typer.Option(help="Passes."), Unless("steps")] = 3.0


@dataclass(frozen=True, kw_only=True)
class Nested:
    """In a group."""

    sampling: Sampling = field(default_factory=Sampling)


def sampling(**given: Any) -> None:
    @with_options
    def command(options: Nested) -> None:
        """What it is for."""

    command(**{each: getattr(Sampling(), each) for each in Sampling.__dataclass_fields__} | given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": 3}, "--seed says nothing without --kind sampled"),
        ({"seed": 3, "kind": "given"}, "--seed says nothing without --kind sampled"),
        ({"warmth": 1.0}, "--warmth says nothing without --teacher or --labels"),
        ({"steps": 5, "epochs": 1.0}, "--epochs says nothing beside --steps"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        sampling(**given)


@pytest.mark.parametrize(
    "given",
    [{}, {"seed": 3, "kind": "sampled"}, {"warmth": 1.0, "labels": "x"}, {"epochs": 1.0}, {"steps": 5, "epochs": 3.0}],
)
def test_options_that_go_together_are_taken(given: dict[str, Any]) -> None:
    sampling(**given)
