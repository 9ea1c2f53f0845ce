"""What the `mtlora` command is whether the whole library or the client alone is installed: version, errors in words."""

import sys
from typing import Annotated

import typer

from mtlora.cli.say import say, say_text
from mtlora.version import full_version
from mtlora.vocabulary.errors import MTLoRAError


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"mtlora {full_version()}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show version and commit, and exit."),
    ] = False,
) -> None:
    pass


def new_command(summary: str) -> typer.Typer:
    """The command with `--version` and nothing else yet."""
    command = typer.Typer(name="mtlora", help=summary, no_args_is_help=True, pretty_exceptions_enable=False)
    command.callback()(_options)
    return command


def run(command: typer.Typer) -> None:
    """Run the command line; errors raised on purpose are printed without a traceback, exit status 1."""
    try:
        command()
    except MTLoRAError as error:
        say_text(f"mtlora: {error}", err=True)
        sys.exit(1)
