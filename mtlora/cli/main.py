"""The entry point of the `mtlora` command: collects the commands, and turns errors into plain words."""

import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from mtlora.cli import backbone, bench, compare, evaluate, files, pretrain, train
from mtlora.cli.data import data
from mtlora.cli.remote import remote
from mtlora.cli.say import say, say_text
from mtlora.version import full_version
from mtlora.vocabulary.errors import MTLoRAError

COMMANDS_GROUP = "mtlora.commands"

cli = typer.Typer(
    name="mtlora",
    help="MTLoRA adapter sets on one frozen Swin backbone: train, convert, inspect, predict, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"mtlora {full_version()}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show version and commit, and exit."),
    ] = False,
) -> None:
    pass


for _command in (
    files.predict,
    files.info,
    files.convert,
    files.forward,
    backbone.backbone,
    pretrain.pretrain,
    train.train,
    evaluate.evaluate,
    compare.compare,
    bench.bench,
):
    cli.command()(_command)
cli.add_typer(data, name="data")
cli.add_typer(remote, name="remote")
for _entry in sorted(entry_points(group=COMMANDS_GROUP), key=lambda entry: entry.name):
    _loaded = _entry.load()
    if isinstance(_loaded, typer.Typer):
        cli.add_typer(_loaded, name=_entry.name)
    else:
        cli.command(name=_entry.name, cls=getattr(_loaded, "command_class", None))(_loaded)


def main() -> None:
    """Run the command line; errors raised on purpose are printed without a traceback, exit status 1."""
    try:
        cli()
    except MTLoRAError as error:
        say_text(f"mtlora: {error}", err=True)
        sys.exit(1)
