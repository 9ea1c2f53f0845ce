"""The entry point of the `mtlora` command: collects the commands."""

from importlib.metadata import entry_points

import typer

from mtlora.cli import backbone, bench, calibrate, compare, convert, evaluate, files, pretrain, push_hub, train
from mtlora.cli.command import new_command, run
from mtlora.cli.data import data
from mtlora.cli.remote import remote

COMMANDS_GROUP = "mtlora.commands"

cli = new_command("MTLoRA adapter sets on one frozen Swin backbone: train, convert, inspect, predict, serve.")
for _command in (
    files.predict,
    files.info,
    convert.convert,
    files.forward,
    backbone.backbone,
    pretrain.pretrain,
    train.train,
    evaluate.evaluate,
    calibrate.calibrate,
    compare.compare,
    bench.bench,
    push_hub.push_hub,
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
    run(cli)
