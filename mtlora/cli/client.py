"""The `mtlora` command of the distribution `mtlora-client`: what asks a server, and nothing else. Needs no torch."""

from importlib import import_module
from importlib.util import find_spec

from mtlora.cli import bench
from mtlora.cli.command import new_command, run
from mtlora.cli.remote import remote

WHOLE = "mtlora.cli.main"

cli = new_command("Ask a running mtlora-server. Models, training and serving: pip install mtlora-server.")
cli.command()(bench.bench)
cli.add_typer(remote, name="remote")


def main() -> None:
    """Run the command; the whole one, if `mtlora-server` is installed too and pip wrote this one's script over its."""
    run(import_module(WHOLE).cli if find_spec(WHOLE) else cli)
