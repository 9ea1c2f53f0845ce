"""`mtlora serve`: every setting is a flag. Imports nothing heavy before the process is the one that serves."""

import inspect
import os
import platform
import sys
from types import UnionType
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from app.settings import Settings

# By default glibc gives large tensors back to the kernel after every operator, and the page faults of getting them
# again cost 10 to 50 % of a forward pass on a CPU. One arena: with one for each thread every thread that loads sets or
# draws maps keeps its own peak for ever. glibc reads these before the process begins, hence the re-exec.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
    "MALLOC_ARENA_MAX": "1",
}

# After every forward pass GNU OpenMP's threads wait 6 to 16 ms for another loop in a busy loop, which keeps a core from
# drawing the answer's maps. So many turns, a third of a ms or so, are enough to meet the next loop of the same pass.
WAITING = {"GOMP_SPINCOUNT": "10000"}
ENVIRONMENT = ALLOCATOR | WAITING
"""What `mtlora serve` starts itself again with, unless the variables are there."""


def serve(**flags: Any) -> None:
    """Serve the backbone and its adapter sets over HTTP. Every option is also an environment variable MTLORA_*."""
    settings = _settings({name: value for name, value in flags.items() if value is not None})
    _use_environment()
    from app.server import run  # torch comes with it: only now, and only for this command

    raise typer.Exit(run(settings))


def _settings(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            where = ".".join(map(str, fault["loc"]))
            message = fault["msg"].removeprefix("Value error, ")
            typer.echo(f"mtlora serve: {f'--{where}: '.replace('_', '-') if where else ''}{message}", err=True)
        raise typer.Exit(2) from None


def _use_environment() -> None:
    if platform.libc_ver()[0] == "glibc" and not ENVIRONMENT.keys() <= os.environ.keys():
        os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _option(name: str, info: FieldInfo) -> inspect.Parameter:
    kind: Any = info.annotation
    if isinstance(kind, UnionType):
        kind = next(t for t in get_args(kind) if t is not type(None))
    flag = "--" + name.replace("_", "-")
    default = info.get_default(call_default_factory=True)
    unset = "" if default is None else f"; default: {default}"  # its description then says what follows
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=f"{info.description} (MTLORA_{name.upper()}{unset})",
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


# One source of truth: the settings. Typer reads the signature, so the flags follow from it.
_OPTIONS = [_option(name, info) for name, info in Settings.model_fields.items() if name != "api_keys"]
serve.__signature__ = inspect.Signature(_OPTIONS)  # type: ignore[attr-defined]
serve.__annotations__ = {option.name: option.annotation for option in _OPTIONS}
